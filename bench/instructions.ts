/**
 * Instructions: how many machine instructions one publish executes, compared with a plain INSERT of
 * the same row that returns its id. Callgrind counts them on a single-user server, so nothing else on
 * the machine disturbs the figures: they repeat to about 1 %. A call is one `execute` with its
 * transaction. Each variant begins with empty tables, so that their indexes are equally high.
 *
 *     deno task bench instructions [--calls 100] [--version 18] [--only "no reader,elsewhere"]
 *       [--bytes 24] [--json]
 *
 * Starts a throwaway server of its own, and ignores DATABASE_URL. Needs valgrind, and says so where
 * it is missing. `writers.ts` has what a watch costs the statements that write to its table.
 *
 * @module
 */

import { join } from "node:path";
import { connect, type Database, migrate } from "@hark/postgres";
import { startEmbedded } from "../src/embedded/mod.ts";
import { flags, round, say } from "./flags.ts";
import { insertMany, payloadOf, plainTable } from "./floor.ts";
import { type Variant, writers } from "./writers.ts";
import { print } from "./table.ts";

const given = flags({ calls: "100", version: "", only: "", bytes: "24" });
const calls = given.number("calls");
const bytes = given.number("bytes");
const payload = JSON.stringify(payloadOf(bytes));
const plain = "plain INSERT, RETURNING id";
const plainBatch = "plain INSERT of 100 from JSON, RETURNING id";

/** As many notifications as a batch has. */
const size = 100;
const batch = () =>
  `'${
    JSON.stringify(
      Array.from({ length: size }, (_, n) => ({ channel: "bench", payload: payloadOf(bytes, n) })),
    )
  }'`;

const notify = "(text, jsonb) as select hark.notify($1, $2)";
const onOne = () => `'bench', '${payload}'`;
const sleepers = (count: number) => [
  `select hark.sleep(gen_random_uuid(), array['elsewhere ' || n], null, 3600000) from generate_series(1, ${count}) n`,
];
const variants: Readonly<Record<string, Variant>> = {
  [plain]: {
    prepared:
      "(text, jsonb) as insert into plain.log (channel, payload) values ($1, $2) returning id",
    call: onOne,
  },
  "plain INSERT without": {
    prepared: "(text, jsonb) as insert into plain.log (channel, payload) values ($1, $2)",
    call: onOne,
  },
  "hark.notify: no reader sleeps": { prepared: notify, call: onOne },
  "hark.notify: a sleeper is woken": {
    before: ["select hark.sleep(gen_random_uuid(), array['bench'], null, 3600000)"],
    prepared: notify,
    call: onOne,
  },
  "hark.notify: one sleeps elsewhere": { before: sleepers(1), prepared: notify, call: onOne },
  "hark.notify: 100 sleep elsewhere, on 100 channels": {
    before: sleepers(100),
    prepared: notify,
    // The mean over many channels: two or three share a bit with a sleeper's. The first of them has
    // hark.wake_one planned, which a session does once.
    warm: 100,
    call: (n) => `'bench ${n % 100}', '${payload}'`,
  },
  "hark.notify: with a key": {
    prepared: "(text, jsonb, text) as select hark.notify($1, $2, $3)",
    call: (n) => `'bench', '${payload}', 'key ${n}'`,
  },
  "hark.notify: with a key and headers": {
    prepared: "(text, jsonb, text, jsonb) as select hark.notify($1, $2, $3, $4)",
    call: (n) => `'bench', '${payload}', 'key ${n}', '{"trace": "a"}'`,
  },
  "hark.notify: with a context": {
    before: [`set hark.context = '{"user": "ada"}'`],
    after: ["reset hark.context"],
    prepared: notify,
    call: onOne,
  },
  "hark.notify_at, in an hour": {
    prepared:
      "(text, jsonb) as select hark.notify_at($1, $2, null, null, clock_timestamp() + '1 hour')",
    call: onOne,
  },
  // Counted, as a single-user server prints each row.
  [plainBatch]: {
    prepared: `(text) as with i as (${insertMany}) select count(*) from i`,
    call: batch,
    floor: plainBatch,
  },
  "hark.notify_many of 100": {
    prepared: "(text) as select count(*) from hark.notify_many($1::json)",
    call: batch,
    floor: plainBatch,
  },
  ...writers,
};

/** A server for the measurement, stopped, with a database for each kind of owner. */
async function prepare(): Promise<Server & AsyncDisposable> {
  const server = await startEmbedded({
    ephemeral: true,
    settings: { autovacuum: "off" },
    ...(given.text("version") === "" ? {} : { version: given.text("version") }),
  });
  try {
    await using db = await connect(server.url);
    await db.query(`create role bench_owner login password 'bench'`);
    for (const owner of owners) {
      await db.query(`create database ${owner.database} owner ${owner.role}`);
      const url = new URL(server.url);
      if (owner.role !== "hark") [url.username, url.password] = [owner.role, "bench"];
      url.pathname = `/${owner.database}`;
      await using own = await connect(url.href);
      await install(own);
    }
    // Its first word is the program.
    const options = await Deno.readTextFile(join(server.dataDir, "postmaster.opts"));
    const { uid, gid } = await Deno.stat(server.dataDir);
    await db[Symbol.asyncDispose]();
    await server.stop();
    return {
      program: options.split(" ")[0]!,
      version: server.version,
      dataDir: server.dataDir,
      account: Deno.uid() === 0 && uid !== null && gid !== null ? { uid, gid } : {},
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function install(db: Database): Promise<void> {
  await migrate(db);
  await plainTable(db);
}

/** The roles that own the schema. */
const owners = [
  { name: "a superuser owns the schema", role: "hark", database: "superuser" },
  { name: "an ordinary role does", role: "bench_owner", database: "ordinary" },
];

interface Server {
  readonly program: string;
  readonly version: string;
  readonly dataDir: string;
  readonly account: { readonly uid?: number; readonly gid?: number };
}

/** Callgrind writes down what it has counted, and begins anew, when this function is called. */
const marker = "pg_my_temp_schema";
const mark = `select ${marker}()`;

/** The instructions of one call of each variant, on a single-user server. */
async function measure(
  server: Server,
  database: string,
  measured: readonly Variant[],
): Promise<number[]> {
  const statements = ["prepare p as select 1", mark, mark]; // between these two: the mark itself
  for (const variant of measured) {
    const { before = [], after = [], prepared, call, calls: own = calls } = variant;
    statements.push("truncate hark.log, plain.log", "delete from hark.sleepers");
    statements.push("select hark.shut_gates()", ...before);
    statements.push("deallocate p", `prepare p ${prepared}`);
    // The plans are made, and kept, within the first calls.
    const warm = variant.warm ?? Math.min(10, own);
    for (let n = 0; n < warm; n++) statements.push(`execute p(${call(n)})`);
    statements.push(mark);
    for (let n = warm; n < warm + own; n++) statements.push(`execute p(${call(n)})`);
    statements.push(mark, ...after);
  }
  const counts = await countsBetweenMarks(server, database, statements);
  return measured.map((variant, n) => (counts[2 * n + 3]! - counts[1]!) / (variant.calls ?? calls));
}

/** The instructions up to each mark, from the one before it. */
async function countsBetweenMarks(
  { program, dataDir, account }: Server,
  database: string,
  statements: readonly string[],
): Promise<number[]> {
  const counts = join(dataDir, `counts-${database}`);
  const child = new Deno.Command("valgrind", {
    args: [
      "--tool=callgrind",
      `--callgrind-out-file=${counts}`,
      `--dump-before=${marker}`,
      program,
      "--single",
      "-D",
      dataDir,
      database,
    ],
    cwd: "/",
    clearEnv: true,
    env: { LC_ALL: "C", PATH: "/usr/bin:/bin" },
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
    ...account,
  }).spawn();
  const output = child.output();
  const input = child.stdin.getWriter();
  await input.write(
    new TextEncoder().encode(
      `${statements.map((text) => text.replaceAll(/\s+/g, " ")).join("\n")}\n`,
    ),
  );
  await input.close();
  const { code, stderr } = await output;
  const text = new TextDecoder().decode(stderr);
  if (code !== 0 || /(ERROR|FATAL|PANIC):/.test(text)) {
    throw new Error(`the single-user server failed:\n${text}`);
  }
  const marks = statements.filter((statement) => statement === mark).length;
  return await Promise.all(Array.from({ length: marks }, async (_, n) => {
    const [, count] = /^totals: (\d+)/m.exec(await Deno.readTextFile(`${counts}.${n + 1}`)) ?? [];
    if (count === undefined) throw new Error(`${counts}.${n + 1} has no total`);
    return Number(count);
  }));
}

/** Whether valgrind runs here. */
async function hasValgrind(): Promise<boolean> {
  try {
    const { code } = await new Deno.Command("valgrind", { args: ["--version"] }).output();
    return code === 0;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

if (!await hasValgrind()) {
  console.error("bench: skipped. Counting instructions needs valgrind: apt install valgrind");
  Deno.exit(0);
}
const chosen = given.chosen(variants);
if (chosen[0]![0] !== plain) chosen.unshift([plain, variants[plain]!]);
const rows: Record<string, string | number>[] = chosen.map(([name]) => ({ "one call": name }));
let version: string;
{
  await using server = await prepare();
  version = server.version;
  for (const owner of owners) {
    const counts = await measure(server, owner.database, chosen.map(([, variant]) => variant));
    for (const [n, count] of counts.entries()) {
      rows[n]![owner.name] = Math.round(count);
      const floor = chosen.findIndex(([name]) => name === (chosen[n]![1].floor ?? plain));
      rows[n]![`ratio, ${owner.database}`] = round(count / (counts[floor] ?? NaN));
    }
    say(`${owner.name}: done`);
  }
}
await print({
  title: "Instructions of one publish, with its transaction, and the ratio to a plain INSERT",
  rows,
  notes: [
    `PostgreSQL ${version}, single-user, callgrind; ${calls} calls; payloads of ${
      given.text("bytes")
    } bytes. A superuser calls. The last two columns: the schema belongs to an ordinary role.`,
  ],
}, given);
Deno.exit(0);
