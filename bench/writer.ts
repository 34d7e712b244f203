/**
 * The writer: what watching a table costs the programs that write to it. Runs an INSERT, UPDATE,
 * DELETE and COPY of 10,000 rows on a table of ten columns with three indexes. Variants: without a
 * trigger; watched by `hark.watch` with each kind of payload; with hand-written triggers that store
 * the same payloads in a plain table, in one statement; and with hand-written triggers on hark.notify,
 * on pg_notify, and on graphile-worker's add_jobs (https://worker.graphile.org/docs/sql-add-job).
 * pg-boss has no call in SQL. Also counts the CPU time of the server's process, if it runs on this
 * machine: other work there does not disturb it.
 *
 *     deno task bench writer [--rows 10000] [--repeats 5] [--only "no trigger,key"] [--json]
 *
 * Needs a superuser, for a checkpoint before each statement. Works in a database of its own, which
 * it drops.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { copyIn } from "./copy.ts";
import { alternate, flags, median, round } from "./flags.ts";
import { plainTable } from "./floor.ts";
import { ownDatabase } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import { print } from "./table.ts";

const given = flags({ rows: "10000", repeats: "5", only: "" });
const count = given.number("rows");

await using own = await ownDatabase();
const { url } = own;
await graphile.install(url);
await plainTable(own.db);

/** The SQL of a hand-written trigger that runs for each row. */
const byHand = (table: string, body: string) => [
  `create function ${table}_changed() returns trigger language plpgsql as $$
    begin
      ${body}
      return null;
    end $$`,
  `create trigger changed after insert or update or delete on ${table}
    for each row execute function ${table}_changed()`,
];
const row = `to_jsonb(case tg_op when 'DELETE' then old else new end)`;
/** One INSERT ... SELECT of the payloads that the watch makes, and nothing else. */
const stored = (rows: boolean) => (table: string) => {
  const one = `'id', c.id${rows ? ", 'new', c.*" : ""}`;
  const pair = "'id', c.id, 'old', w.*, 'new', c.*, 'changed', array['amount', 'quantity']";
  const insert = (fields: string, from: string) =>
    `insert into plain.log (channel, key, payload)
      select '${table}', c.id::text, head || jsonb_build_object(${fields}) from ${from};`;
  return [
    `create function ${table}_changed() returns trigger language plpgsql as $$
      declare
        head jsonb := jsonb_build_object('schema', tg_table_schema, 'table', tg_table_name, 'action', tg_op,
          'metadata', jsonb_build_object('user', session_user, 'role', session_user, 'application', '',
            'session', pg_backend_pid(), 'transaction', pg_current_xact_id()::text));
      begin
        ${
      rows
        ? `if tg_op = 'UPDATE' then
          ${insert(pair, "changed c join was w on w.id = c.id")}
          return null;
        end if;`
        : ""
    }
        ${insert(one, "changed c")}
        return null;
      end $$`,
    ...[
      "insert referencing new",
      "update referencing old table as was new",
      "delete referencing old",
    ]
      .map((what) => {
        const [operation, ...tables] = what.split(" ");
        return `create trigger changed_by_${operation} after ${operation} on ${table}
          ${
          tables.join(" ")
        } table as changed for each statement execute function ${table}_changed()`;
      }),
  ];
};
const watched = (payload: string) => (table: string) => [
  `select hark.watch('${table}'::regclass, payload => '${payload}')`,
];

interface Variant {
  /** The statements that create the trigger. */
  setUp(table: string): readonly string[];
  /** The query that counts what was published. */
  readonly published?: string;
}

const log = "select count(*)::int as there from hark.log";
const plainLog = "select count(*)::int as there from plain.log";
const floor = "no trigger";
const variants: Readonly<Record<string, Variant>> = {
  [floor]: { setUp: () => [] },
  "hark.watch, payload key": { setUp: watched("key"), published: log },
  "hark.watch, payload new": { setUp: watched("new"), published: log },
  "hark.watch, payload full": { setUp: watched("full"), published: log },
  "statement trigger: payload key, in a plain table": {
    setUp: stored(false),
    published: plainLog,
  },
  "statement trigger: payload full, in a plain table": {
    setUp: stored(true),
    published: plainLog,
  },
  "row trigger: hark.notify": {
    setUp: (table) => byHand(table, `perform hark.notify('${table}', ${row});`),
    published: log,
  },
  "row trigger: pg_notify (nothing stored)": {
    setUp: (table) => byHand(table, `perform pg_notify('${table}', ${row}::text);`),
  },
  // Not add_job in a row trigger, as its page shows: that gets slower the more jobs a transaction
  // adds.
  "statement trigger: graphile_worker.add_jobs": {
    setUp: (table) => [
      `create function ${table}_changed() returns trigger language plpgsql as $$
        begin
          perform graphile_worker.add_jobs(array_agg(json_populate_record(
            null::graphile_worker.job_spec,
            json_build_object('identifier', '${table}', 'payload', to_jsonb(changed)))))
          from changed;
          return null;
        end $$`,
      ...[["insert", "new"], ["update", "new"], ["delete", "old"]].map(([what, which]) =>
        `create trigger changed_by_${what} after ${what} on ${table}
          referencing ${which} table as changed
          for each statement execute function ${table}_changed()`
      ),
    ],
    published: "select count(*)::int as there from graphile_worker._private_jobs",
  },
};

const client = new pg.Client({ connectionString: url });
client.on("error", (error) => console.error(error.message));
await client.connect();

const tables = new Map<string, string>();
const chosen = given.chosen(variants);
if (chosen[0]![0] !== floor) chosen.unshift([floor, variants[floor]!]);
for (const [name, { setUp }] of chosen) {
  const table = `t${tables.size}`;
  tables.set(name, table);
  await client.query(
    `create table ${table} (
      id bigint generated always as identity primary key,
      email text not null unique,
      name text not null,
      status text not null,
      amount numeric(12, 2) not null,
      quantity integer not null,
      paid boolean not null,
      tags jsonb not null,
      created_at timestamptz not null default now(),
      updated_at timestamptz
    )`,
  );
  await client.query(`create index on ${table} (status, created_at)`);
  for (const statement of setUp(table)) await client.query(statement);
}

const columns = "email, name, status, amount, quantity, paid, tags";
const statements = (table: string): Record<string, () => Promise<unknown>> => ({
  INSERT: () =>
    client.query(
      `insert into ${table} (${columns})
      select 'user' || n || '@example.org', 'A name of ' || n, 'open', n * 1.25, n % 100, n % 2 = 0,
        jsonb_build_array('one', 'two', n)
      from generate_series(1, ${count}) n`,
    ),
  UPDATE: () =>
    client.query(
      `update ${table} set amount = amount + 1, quantity = quantity + 1, updated_at = now()`,
    ),
  DELETE: () => client.query(`delete from ${table}`),
  COPY: () => copyIn(client, `copy ${table} (${columns}) from stdin`, copied),
});
const copied = Array.from(
  { length: count },
  (_, n) =>
    `user${n}@example.org\tA name of ${n}\topen\t${n * 1.25}\t${
      n % 100
    }\tt\t["one", "two", ${n}]\n`,
).join("");

/** The CPU time of the session's process, in ms. Null if the server has no such file, or another machine. */
async function cpuTime(): Promise<number | null> {
  const { rows } = await client.query(
    "select split_part(pg_read_file('/proc/self/schedstat', 0, 100, true), ' ', 1)::float8 / 1e6 as ms",
  );
  return rows[0].ms;
}

/** What a statement took, in ms. */
interface Time {
  readonly elapsed: number;
  readonly cpu: number;
}

/** Runs each statement on an empty or full table, in a transaction of its own. */
async function measure(name: string): Promise<Record<string, Time>> {
  const { published } = variants[name]!;
  const table = tables.get(name)!;
  const times: Record<string, Time> = {};
  for (const [what, run] of Object.entries(statements(table))) {
    await client.query("checkpoint");
    const before = await cpuTime();
    const begun = performance.now();
    await run();
    const elapsed = performance.now() - begun;
    const after = await cpuTime();
    times[what] = { elapsed, cpu: before === null || after === null ? NaN : after - before };
    if (published !== undefined) {
      const { rows } = await client.query(published);
      if (rows[0].there !== count) {
        throw new Error(`${name}: ${rows[0].there} published by ${count} rows of ${what}`);
      }
      await client.query("truncate hark.log, plain.log");
      await client.query("truncate graphile_worker._private_jobs");
    }
  }
  await client.query(`truncate ${table}`);
  await client.query("truncate hark.log"); // a watch publishes the TRUNCATE too
  return times;
}

const results = await alternate(
  given.repeats,
  chosen.map(([name]) => [name, () => measure(name)] as const),
);
await client.end();
const of = (name: string, what: string, which: keyof Time) =>
  median(results.get(name)!.map((times) => times[what]?.[which] ?? NaN));
const ratio = (name: string, what: string, which: keyof Time) => {
  const found = of(name, what, which) / of(floor, what, which);
  return Number.isFinite(found) ? round(found, 2) : null;
};
await print({
  title: `Cost of writing ${count} rows: ms, and the ratio to no trigger`,
  rows: chosen.map(([name]) => ({
    table: name,
    ...Object.fromEntries(
      ["INSERT", "UPDATE", "DELETE", "COPY"].flatMap((what) => [
        [`${what}, ms`, round(of(name, what, "elapsed"))],
        [`x ${what.toLowerCase()}`, ratio(name, what, "elapsed")],
        [`CPU ${what.toLowerCase()}`, ratio(name, what, "cpu")],
      ]),
    ),
  })),
  notes: [
    `One statement and transaction each, a table of 10 columns and 3 indexes, no reader; medians of ` +
    `${given.repeats} in turns. The published notifications are counted: one a row.`,
    `CPU: the ratio of the CPU time of the server's process.`,
  ],
}, given);
