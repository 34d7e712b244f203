/**
 * Growth: whether any cost grows with the log. Measures publishing, live delivery and replay with
 * 10 thousand, 1 million and 10 million rows in the log. Compared with a plain table of as many
 * rows, and with the peers with as many jobs waiting. Each size has a database of its own, so that
 * the sizes are measured in turns too.
 *
 *     deno task bench growth [--sizes 10000,1000000,10000000] [--bytes 100] [--clients 4]
 *       [--seconds 3] [--count 200] [--pause 20] [--replay 50000] [--no-peers] [--repeats 3]
 *       [--json] [--svg FILE]
 *
 * Works in databases of its own, which it drops.
 *
 * @module
 */

import { connect, notify, removeConsumer } from "@hark/postgres";
import { alternate, flags, median, round } from "./flags.ts";
import { fillBoss, fillGraphile, fillLog } from "./fill.ts";
import { payloadOf, plainTable } from "./floor.ts";
import { type OwnDatabase, ownDatabase, pause, quantile } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { findDriver } from "./pgbench.ts";
import { print } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({
  sizes: "10000,1000000,10000000",
  bytes: "100",
  clients: "4",
  seconds: "3",
  count: "200",
  pause: "20",
  replay: "50000",
  "no-peers": false,
});
const bytes = given.number("bytes");

const { name: driver, drive } = await findDriver();
const payload = JSON.stringify(payloadOf(bytes));
await using ends = new AsyncDisposableStack();
let measured = 0;

const now = () => performance.timeOrigin + performance.now();

/** Measures the latency from the publishing call to the handler, one notification at a time. */
async function latency({ live: system, publish, url }: System) {
  // A queue must exist before something is sent to it, so this one was created in advance.
  const name = system === "pgboss-listen" ? "live" : `live${++measured}`;
  const options = { from: "now" } as const;
  await using worker = await BenchWorker.start({ system, url, name, options });
  const begun = performance.now();
  // A new consumer does not receive notifications from before its registration. So publish until
  // one arrives.
  while ((await worker.ask({})).handled === 0) {
    if (performance.now() - begun > 60_000) throw new Error(`${system} handles nothing`);
    await publish(name, {});
    await pause(50);
  }
  await pause(500);
  await worker.ask({ reset: true });
  for (let n = 1; n <= given.number("count"); n++) {
    await pause(given.number("pause") * (0.5 + Math.random()));
    await publish(name, { at: now() });
    await worker.ask({ count: n }, 60);
  }
  const { latencies } = await worker.stop();
  return { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) };
}

/** Measures how fast the first notifications of the backlog are handled. */
async function replay({ old: system, url }: System, count: number): Promise<number> {
  await using worker = await BenchWorker.start({ system, url, name: "old", mark: count });
  const { ms } = await worker.ask({ count });
  return count / (ms / 1000);
}

const insert = `insert into plain.log (channel, payload) values ('new', '${payload}') returning id`;

/** One of the compared systems, in a database of one size. */
interface System {
  readonly url: string;
  /** Restores what a pass has used up, before each pass. */
  renew(): Promise<void>;
  readonly statement: string;
  readonly live: string;
  publish(name: string, payload: object): Promise<unknown>;
  readonly old: string;
}

/** Sets up all systems in a database with `size` rows each. */
async function systemsWith(size: number): Promise<Record<string, System>> {
  const { db, url } = ends.use(await ownDatabase());
  await plainTable(db);
  const publisher = ends.use(await connect(url, { poolSize: 1 }));
  for (const table of ["plain.log", "hark.log"]) await fillLog(db, { table, rows: size, bytes });
  return {
    "plain table": {
      url,
      renew: () => Promise.resolve(),
      statement: insert,
      live: "listen-select",
      publish: (name, payload) =>
        publisher.query(
          `with i as (insert into plain.log (channel, payload) values ($1, $2) returning id)
          select pg_notify($1, id::text) from i`,
          [name, JSON.stringify(payload)],
        ),
      old: "pages-plain",
    },
    "Hark": {
      url,
      renew: async () => void await removeConsumer(db, "bench-old"), // for the next pass
      statement: `select hark.notify('new', '${payload}')`,
      live: "hark",
      publish: (name, payload) => notify(publisher, name, payload),
      old: "hark",
    },
    ...given.has("no-peers") ? {} : await peersWith(size, { db, url }),
  };
}

async function peersWith(
  size: number,
  { db, url }: Pick<OwnDatabase, "db" | "url">,
): Promise<Record<string, System>> {
  await graphile.install(url);
  const utils = await graphile.publisher(url);
  for (const task of ["old", "new"]) await utils.addJob(task, {});
  ends.defer(async () => await utils.release());
  const boss = await pgboss.start(url, { connections: 1, publishes: true });
  ends.defer(() => boss.stop({ graceful: false }));
  for (const queue of ["old", "new"]) await pgboss.queue(boss, queue);
  await pgboss.queue(boss, "live", true);
  const topUp = async (table: string, gone: string, fill: typeof fillBoss) => {
    await db.query(`delete from ${table} where ${gone}`);
    const { rows } = await db.query(`select count(*)::int as there from ${table}`);
    await fill(db, { rows: size - rows[0].there, bytes });
  };
  return {
    "graphile-worker, jobs waiting": {
      url,
      renew: () =>
        topUp(
          "graphile_worker._private_jobs",
          `locked_at is not null or task_id <> (
            select id from graphile_worker._private_tasks where identifier = 'old')`,
          fillGraphile,
        ),
      statement: `select graphile_worker.add_job('new', '${payload}')`,
      live: "graphile-unbatched",
      publish: (name, payload) => utils.addJob(name, payload),
      old: "graphile",
    },
    "pg-boss, jobs waiting": {
      url,
      renew: () => topUp("pgboss.job", "name <> 'old' or state <> 'created'", fillBoss),
      statement: await pgboss.sendStatement(boss, "new", JSON.parse(payload)),
      live: "pgboss-listen",
      publish: (name, payload) => boss.send(name, payload),
      old: "pgboss",
    },
  };
}

async function measure(system: System, size: number) {
  await system.renew();
  const { statement, url } = system;
  const load = { url, clients: given.number("clients"), seconds: given.number("seconds") };
  return {
    publish: (await drive(statement, load)).perSecond,
    ...await latency(system),
    replay: await replay(system, Math.min(size, given.number("replay"))),
  };
}

const variants: { system: string; size: number; name: string; on: System }[] = [];
for (const size of given.numbers("sizes")) {
  for (const [system, on] of Object.entries(await systemsWith(size))) {
    variants.push({ system, size, name: `${system}, ${size} rows`, on });
  }
}
const results = await alternate(
  given.repeats,
  variants.map(({ name, on, size }) => [name, () => measure(on, size)] as const),
);
const figures = {
  publish: "publish a second",
  p50: "latency p50, ms",
  p99: "p99, ms",
  replay: "replay, rows a second",
};
type Figure = keyof typeof figures;
const medians = new Map(
  [...results].map(([name, passes]) => [
    name,
    Object.fromEntries(
      Object.keys(figures).map((
        what,
      ) => [what, median(passes.map((pass) => pass[what as Figure]))]),
    ) as Record<Figure, number>,
  ]),
);
const curves = new Map<string, [number, number][]>();
const rows = variants.toSorted((a, b) =>
  a.system < b.system ? -1 : a.system > b.system ? 1 : a.size - b.size
)
  .map(({ system, size, name }) => {
    const of = medians.get(name)!;
    const least = medians.get(variants.find((v) => v.system === system)!.name)!;
    for (const what of ["publish", "replay"] as const) {
      const line = `${system}: ${what}`;
      curves.set(line, [...curves.get(line) ?? [], [size, of[what]]]);
    }
    return {
      system,
      "rows in the log": size,
      ...Object.fromEntries(
        Object.entries(figures).flatMap(([what, title]) => [
          [title, round(of[what as Figure])],
          [`ratio ${what}`, round(of[what as Figure] / least[what as Figure], 2)],
        ]),
      ),
    };
  });
await print({
  title: "As the log grows",
  rows,
  panels: [{
    title: "publishing and replay",
    x: { label: "rows in the log", log: true },
    y: { label: "a second", log: true },
    lines: [...curves].map(([name, points]) => ({ name, points })),
  }],
  notes: [
    `Publishing: ${driver}, ${given.text("clients")} clients, no reader. Latency: ${
      given.text("count")
    }, one at a time, a consumer from "now". Replay: a new consumer's first ${
      given.text("replay")
    }. ` +
    `Payloads of ${bytes} bytes, medians of ${given.repeats}, systems and sizes in turns. Ratios compare with the smallest log.`,
  ],
}, given);
