/**
 * Flatness: a steady rate of notifications is published and handled while a transaction stays open
 * elsewhere. That transaction has a transaction number and a snapshot, so rows that die after it
 * began cannot be vacuumed. Prints throughput and latency of each minute, and the dead rows in
 * Hark's tables.
 *
 *     deno task bench flatness [--minutes 5] [--rate 500] [--closed]
 *
 * `--closed` leaves the transaction out, for comparison. Works in a database of its own, which it
 * drops.
 *
 * @module
 */

import { parseArgs } from "node:util";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, Consumer, notify } from "@hark/postgres";
import { ownDatabase, pause, quantile } from "./own.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    minutes: { type: "string", default: "5" },
    rate: { type: "string", default: "500" },
    partitions: { type: "string", default: "4" },
    closed: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const minutes = Number(values.minutes);
const rate = Number(values.rate);
const publishers = 4;

await using own = await ownDatabase();
const { db, url } = own;

const open = new pg.Client({ connectionString: url });
open.on("error", (error) => console.error(error.message));
await open.connect();
if (!values.closed) {
  await open.query("create table elsewhere (n integer)");
  await open.query("begin isolation level repeatable read");
  await open.query("insert into elsewhere values (1)");
}

/** The latencies of the notifications that were handled in each minute, in milliseconds. */
const handled: number[][] = Array.from({ length: Math.ceil(minutes) + 1 }, () => []);
const began = Date.now();
const minuteOf = (ms: number) => Math.min(handled.length - 1, Math.floor((ms - began) / 60_000));

await using reader = await connect(url);
const consumer = new Consumer(reader, {
  id: "c",
  channels: "c",
  partitions: Number(values.partitions),
  concurrency: 4,
  handle: (n) => {
    const now = Date.now();
    handled[minuteOf(now)]!.push(now - n.payload.at);
  },
});
const running = consumer.run();

/** Publishes a share of the rate until the end. Returns the number of notifications. */
async function publish(share: number): Promise<number> {
  const end = began + minutes * 60_000;
  let count = 0;
  for (let due = began; due < end; due += 1000 / share) {
    const wait = due - Date.now();
    if (wait > 1) await pause(wait);
    await notify(db, "c", { at: Date.now() }, { key: `k${count++ % 50}` });
  }
  return count;
}

/** The dead rows and the size of Hark's own tables. */
async function dead(): Promise<string> {
  await db.query("select pg_sleep(0.6)"); // until the sessions have reported their statistics
  const { rows } = await db.query(
    `select relname, n_dead_tup::int as dead, pg_total_relation_size(relid)::int / 1024 as kib
      from pg_stat_user_tables where schemaname = 'hark' and n_dead_tup > 0 order by n_dead_tup desc`,
  );
  return rows.map((row) => `${row.relname} ${row.dead} (${row.kib} KiB)`).join(", ");
}

const table: Record<string, unknown>[] = [];
const reports = (async () => {
  for (let minute = 0; minute < minutes; minute++) {
    await pause(Math.max(0, began + Math.min(minute + 1, minutes) * 60_000 - Date.now()));
    const times = handled[minute]!;
    const row = {
      minute: minute + 1,
      "handled a second": Number((times.length / Math.min(60, (minutes - minute) * 60)).toFixed(0)),
      "median, ms": quantile(times, 0.5),
      "99 %, ms": quantile(times, 0.99),
      "worst, ms": times.length === 0 ? NaN : quantile(times, 1),
      "dead rows": await dead(),
    };
    table.push(row);
    if (!values.json) console.error(JSON.stringify(row));
  }
})();

const counts = await Promise.all(
  Array.from({ length: publishers }, () => publish(rate / publishers)),
);
await reports;
const published = counts.reduce((sum, count) => sum + count, 0);
for (let waited = 0; handled.flat().length < published && waited < 20; waited++) await pause(500);
await consumer.stop();
await running;
if (!values.closed) await open.query("rollback");
await open.end();
const total = handled.flat().length;
if (values.json) {
  console.log(JSON.stringify({ rate, minutes, closed: values.closed, published, total, table }));
} else {
  console.log(
    `${published} published, ${total} handled, a transaction ${
      values.closed ? "not " : ""
    }open elsewhere`,
  );
  console.table(table);
}
