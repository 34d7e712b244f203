/**
 * Batch: publishing many notifications with one statement. Compared with a plain multi-row INSERT
 * of the same data by the same driver, and with the batch functions of the peers. One connection
 * each, no readers.
 *
 *     deno task bench batch [--count 100000] [--size 1000] [--bytes 200] [--repeats 3] [--json]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { connect, notifyMany } from "@hark/postgres";
import { alternate, flags, median, round } from "./flags.ts";
import { insertMany, payloadOf, plainTable } from "./floor.ts";
import { ownDatabase } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { print } from "./table.ts";

const given = flags({ count: "100000", size: "1000", bytes: "200" });
const [count, size] = [given.number("count"), given.number("size")];

await using own = await ownDatabase();
const { db, url } = own;
await plainTable(db);
await graphile.install(url);

await using hark = await connect(url, { poolSize: 1 });
const utils = await graphile.publisher(url);
const boss = await pgboss.start(url, { connections: 1, publishes: true });
await pgboss.queue(boss, "bench");

const payloads = Array.from({ length: count }, (_, n) => payloadOf(given.number("bytes"), n));

/** Publishes all payloads and returns the rows a second. Then counts the rows and removes them. */
async function timed(table: string, publish: (part: typeof payloads) => Promise<unknown>) {
  const begun = performance.now();
  for (let from = 0; from < count; from += size) await publish(payloads.slice(from, from + size));
  const seconds = (performance.now() - begun) / 1000;
  const { rows } = await db.query(`select count(*)::int as there from ${table}`);
  if (rows[0].there !== count) {
    throw new Error(`${table} has ${rows[0].there} rows instead of ${count}`);
  }
  await db.query(`delete from ${table}`);
  await db.query(`vacuum analyze ${table}`);
  return count / seconds;
}

const channel = "bench";
const results = await alternate(given.repeats, [
  [
    "plain INSERT of json, npm:pg",
    () =>
      timed(
        "plain.log",
        (part) =>
          hark.query(insertMany, [JSON.stringify(part.map((payload) => ({ channel, payload })))]),
      ),
  ],
  ["Hark: notifyMany", () =>
    timed(
      "hark.log",
      (part) => notifyMany(hark, part.map((payload) => ({ channel, payload }))),
    )],
  ["graphile-worker: addJobs", () =>
    timed(
      "graphile_worker._private_jobs",
      (part) => utils.addJobs(part.map((payload) => ({ identifier: channel, payload }))),
    )],
  // Without ids, which is its default: returning them costs a little.
  [
    "pg-boss: insert",
    () => timed("pgboss.job", (part) => boss.insert(channel, part.map((data) => ({ data })))),
  ],
]);
await utils.release();
await boss.stop({ graceful: false });

const floor = median(results.get("plain INSERT of json, npm:pg")!);
await print({
  title: `Publishing by ${size}, rows a second`,
  rows: [...results].map(([name, rates]) => ({
    system: name,
    "rows a second": round(median(rates)),
    "of plain INSERT": round(median(rates) / floor, 2),
  })),
  notes: [
    `${count} payloads of ${
      given.text("bytes")
    } bytes, one connection, medians of ${given.repeats} in turns.`,
  ],
}, given);
