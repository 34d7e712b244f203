/**
 * The writer: what watching a table costs the programs that write to it. Runs an INSERT, UPDATE,
 * DELETE and COPY of 10,000 rows on a table of ten columns with three indexes. Variants: without a
 * trigger; watched by `hark.watch` with each kind of payload; and with hand-written triggers on
 * hark.notify, on pg_notify, and on graphile-worker's add_jobs
 * (https://worker.graphile.org/docs/sql-add-job). pg-boss has no call in SQL.
 *
 *     deno task bench writer [--rows 10000] [--repeats 5] [--json]
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
import { ownDatabase } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import { print } from "./table.ts";

const given = flags({ rows: "10000", repeats: "5" });
const count = given.number("rows");

await using own = await ownDatabase();
const { url } = own;
await graphile.install(url);

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
const variants: Readonly<Record<string, Variant>> = {
  "no trigger": { setUp: () => [] },
  "hark.watch, payload key": { setUp: watched("key"), published: log },
  "hark.watch, payload new": { setUp: watched("new"), published: log },
  "hark.watch, payload full": { setUp: watched("full"), published: log },
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
for (const [name, { setUp }] of Object.entries(variants)) {
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

/** Runs each statement on an empty or full table, in a transaction of its own. */
async function measure(name: string): Promise<Record<string, number>> {
  const { published } = variants[name]!;
  const table = tables.get(name)!;
  const times: Record<string, number> = {};
  for (const [what, run] of Object.entries(statements(table))) {
    await client.query("checkpoint");
    const begun = performance.now();
    await run();
    times[what] = performance.now() - begun;
    if (published !== undefined) {
      const { rows } = await client.query(published);
      if (rows[0].there !== count) {
        throw new Error(`${name}: ${rows[0].there} published by ${count} rows of ${what}`);
      }
      await client.query("truncate hark.log");
      await client.query("truncate graphile_worker._private_jobs");
    }
  }
  await client.query(`truncate ${table}`);
  await client.query("truncate hark.log"); // a watch publishes the TRUNCATE too
  return times;
}

const results = await alternate(
  given.repeats,
  Object.keys(variants).map((name) => [name, () => measure(name)] as const),
);
await client.end();
const of = (name: string, what: string) =>
  median(results.get(name)!.map((times) => times[what] ?? NaN));
await print({
  title: `Cost of writing ${count} rows: ms, and the ratio to no trigger`,
  rows: Object.keys(variants).map((name) => ({
    table: name,
    ...Object.fromEntries(
      ["INSERT", "UPDATE", "DELETE", "COPY"].flatMap((what) => [
        [`${what}, ms`, round(of(name, what))],
        [`x ${what.toLowerCase()}`, round(of(name, what) / of("no trigger", what), 2)],
      ]),
    ),
  })),
  notes: [
    `One statement and transaction each, a table of 10 columns and 3 indexes, no reader; medians of ` +
    `${given.repeats} in turns. The published notifications are counted: one a row.`,
  ],
}, given);
