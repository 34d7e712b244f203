/**
 * Looking at a large log: how long a page of `hark log list` takes with each filter, and how long
 * `hark log channels` and `hark log show`. A page either is full, or says how far it looked.
 *
 *     deno task bench look [--rows 2000000] [--bytes 200] [--repeats 5] [--json]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import {
  logChannels,
  notification,
  notifications,
  type NotificationsOptions,
} from "@hark/postgres";
import { fillLog } from "./fill.ts";
import { flags, median, round } from "./flags.ts";
import { ownDatabase } from "./own.ts";
import { print, type Row } from "./table.ts";

const given = flags({ rows: "2000000", bytes: "200", repeats: "5" });
const rows = given.number("rows");

await using own = await ownDatabase();
const { db } = own;
// One day, a channel in a thousand rare, ten thousand keys.
await fillLog(db, {
  table: "hark.log",
  rows,
  bytes: given.number("bytes"),
  channel: "case when n % 1000 = 0 then 'rare' else 'often' end",
  createdAt: `now() - interval '1 day' + n * interval '1 day' / ${rows}`,
});
await db.query("select hark.register('reader', array['often'], 'beginning')");

const hours = (ago: number) => new Date(Date.now() - ago * 3_600_000);
const last = { to: Math.floor(rows / 2) };
const pages: Readonly<Record<string, NotificationsOptions>> = {
  "the newest": {},
  "the oldest": { newestFirst: false },
  "a channel": { channels: "often" },
  "a rare channel": { channels: "rare" },
  "a channel without any": { channels: "none" },
  "a key without any": { key: "unused" },
  "contains": { contains: { n: rows - 50_000 } },
  "contains, without any": { contains: { n: -1 } },
  "search": { search: `"n": ${rows - 50_000},` },
  "search, without any": { search: "not there" },
  "12 hours ago": { to: hours(12) },
  "from 12 hours ago, oldest first": { from: hours(12), newestFirst: false },
  "from 1 hour ago, without any": { from: hours(1), channels: "none" },
  "before an id": last,
};

async function timed<T>(run: () => Promise<T>): Promise<{ ms: number; result: T }> {
  const times: number[] = [];
  let result: T;
  for (let n = 0; n < given.repeats; n++) {
    const begun = performance.now();
    result = await run();
    times.push(performance.now() - begun);
  }
  return { ms: round(median(times)), result: result! };
}

const measured: Row[] = [];
for (const [name, options] of Object.entries(pages)) {
  const { ms, result } = await timed(() => notifications(db, { limit: 20, ...options }));
  const { notifications: found, looked, lookedThrough, more } = result;
  measured.push({
    page: name,
    ms,
    found: found.length,
    looked,
    "through id": more ? lookedThrough : null,
  });
}
const counted = await timed(() => logChannels(db));
measured.push({
  page: "hark log channels",
  ms: counted.ms,
  found: counted.result.channels.length,
  looked: counted.result.looked,
  "through id": counted.result.lookedThrough,
});
const { ms } = await timed(() => notification(db, Math.floor(rows / 3)));
measured.push({ page: "hark log show", ms, found: 1, looked: 1, "through id": null });
await print({
  title: `Looking at a log of ${rows.toLocaleString("en")} notifications`,
  rows: measured,
  notes: [
    `Payloads of ${
      given.number("bytes")
    } bytes, medians of ${given.repeats}, in ms. A page ends at 20 ` +
    `notifications, or after looking at 100,000. "through id": how far a page looked that is not the last.`,
  ],
}, given);
