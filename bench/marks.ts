/**
 * Marks: how many a consumer at the end of the log has stored while notifications are published at a
 * steady rate, what they take, and what thinning leaves of them.
 *
 *     deno task bench marks [--rates 1,100,1000] [--seconds 60] [--json]
 *
 * Works in databases of its own, which it drops. WAL is counted for the whole server: leave
 * DATABASE_URL out, so that it is a throwaway one.
 *
 * @module
 */

import { connect, Consumer, notify } from "@hark/postgres";
import { flags, round, say } from "./flags.ts";
import { ownDatabase, pause } from "./own.ts";
import { print } from "./table.ts";

const given = flags({ rates: "1,100,1000", seconds: "60" });
const seconds = given.number("seconds");
const aDay = 86_400 / seconds;

/** Publishes at a steady rate, each notification in a transaction of its own. */
async function publish(url: string, rate: number, forSeconds: number): Promise<number> {
  const clients = Math.ceil(rate / 250);
  await using db = await connect(url, { poolSize: clients });
  const begun = performance.now();
  const counts = await Promise.all(Array.from({ length: clients }, async () => {
    let count = 0;
    for (; performance.now() - begun < forSeconds * 1000; count++) {
      await notify(db, "c", count);
      await pause(Math.max(0, begun + (count + 1) * 1000 * clients / rate - performance.now()));
    }
    return count;
  }));
  return counts.reduce((a, b) => a + b);
}

async function measure(rate: number) {
  await using own = await ownDatabase();
  const { db, url } = own;
  const ask = async (sql: string) => Number((await db.query(`select ${sql} as n`)).rows[0].n);
  const wal = () => ask("pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')");
  let before = await wal();
  const alone = (await publish(url, rate, seconds / 6), await wal() - before) * 6;
  await using consumers = await connect(url);
  const consumer = new Consumer(consumers, {
    id: "bench",
    channels: "c",
    from: "now",
    handle() {},
  });
  const running = consumer.run();
  await pause(1000);
  const first = await ask("(select last_value from hark.mark_numbers)");
  before = await wal();
  const published = await publish(url, rate, seconds);
  await pause(500);
  const written = await wal() - before - alone;
  const marks = await ask("(select last_value from hark.mark_numbers)") - first;
  const copies = await ask("(select count(*) from hark.kept_marks)");
  const bytes = await ask(
    "pg_total_relation_size('hark.marks') + pg_total_relation_size('hark.kept_marks')",
  );
  await consumer.stop();
  await running;
  const left: number[] = [];
  for (const older of ["2 minutes", "2 hours"]) {
    await db.query(`update hark.marks set taken_at = taken_at - interval '${older}'`);
    do await db.query("update hark.upkeep set thinned_at = '-infinity'"); while (
      await ask("hark.thin_marks()") > 0
    );
    // Mark 0 and the newest ten stay in any case.
    left.push(await ask("(select count(*) - 11 from hark.marks)"));
  }
  // The last minute is whole, the rest of an hour has the first share, the rest of a day the second.
  const standing = (marks + left[0]! * 59 + left[1]! * 1380) * 60 / seconds;
  const row = {
    "published a second": round(published / seconds),
    "marks a day": round(marks * aDay),
    "copies a day": round(copies * aDay),
    "MB a day": round(bytes * aDay / 1e6),
    "WAL of reading, MB a day": round(written * aDay / 1e6),
    "rows that a day leaves": round(standing),
    "MB that a day leaves": round(standing * bytes / (marks + copies) / 1e6),
  };
  say(JSON.stringify(row));
  return row;
}

const rows = [];
for (const rate of given.numbers("rates")) rows.push(await measure(rate));
await print({
  title: "Marks of one consumer",
  rows,
  notes: [
    `Counted for ${seconds} s. Without thinning: marks, copies, MB a day. WAL of reading: beyond that of ` +
    "publishing alone; it has acknowledgements too. What a day leaves: thinned, with the last minute whole.",
  ],
}, given);
