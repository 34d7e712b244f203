/**
 * Memory: a worker process with a long backlog and a slow handler. Prints its resident memory
 * before it reads and at its peak, how long it takes to stop, and how many notifications the next
 * worker repeats.
 *
 *     deno task bench memory [--count 1000000] [--bytes 1000] [--seconds 30]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { until } from "../tests/harness/mod.ts";
import { startWorker } from "../tests/delivery/_support/fleet.ts";
import { readLedger } from "../tests/delivery/_support/ledger.ts";
import { ownDatabase, pause } from "./own.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    count: { type: "string", default: "1000000" },
    bytes: { type: "string", default: "1000" },
    seconds: { type: "string", default: "30" },
    concurrency: { type: "string", default: "10" },
    partitions: { type: "string", default: "4" },
    pace: { type: "string", default: "20" },
    json: { type: "boolean", default: false },
  },
});
const count = Number(values.count);

await using own = await ownDatabase();
const { db, url } = own;
for (let from = 1; from <= count; from += 20_000) {
  await db.query(
    `select hark.notify('c',
        jsonb_build_object('n', n, 'filler', left(repeat(md5(n::text), 1 + $3::int / 32), $3)), 'k' || n % 1000)
      from generate_series($1::int, $2::int) n`,
    [from, Math.min(count, from + 19_999), Math.max(0, Number(values.bytes) - 40)],
  );
}
await db.query("analyze hark.log");

await Deno.mkdir(".hark", { recursive: true });
const ledger = `.hark/bench-memory-${Deno.pid}.ledger`;
const config = {
  options: { partitions: Number(values.partitions), concurrency: Number(values.concurrency) },
  ledger,
  pace: Number(values.pace),
};
const handled = async () =>
  (await readLedger(ledger)).filter(({ what }) => what === "ended").map(({ id }) => id);
const MiB = (bytes: number | string | undefined) => Number((Number(bytes) / 2 ** 20).toFixed(0));

await using worker = startWorker(url, "slow", config);
const [, before] = await worker.line(/^ready \d+ rss (\d+)/);
await until(async () => (await handled()).length > 0, { deadline: 60_000 });
await pause(Number(values.seconds) * 1000);
const stopping = performance.now();
worker.kill("SIGTERM");
const { code } = await worker.ended({ deadline: 60_000 });
const stopMs = Math.round(performance.now() - stopping);
if (code !== 0) throw new Error(`the worker ended with code ${code}:\n${worker.stderr}`);
const [, peak] = await worker.line(/^stopped rss (\d+)/);
const first = (await handled()).length;

await using next = startWorker(url, "next", config);
await until(async () => (await handled()).length > first + 500, { deadline: 60_000 });
next.kill("SIGTERM");
await next.ended({ deadline: 60_000 });
const all = await handled();
await Deno.remove(ledger);
const table = [{
  waiting: count,
  bytes: Number(values.bytes),
  "handled": first,
  "RSS before reading, MiB": MiB(before),
  "peak RSS, MiB": MiB(peak),
  "stop, ms": stopMs,
  repeated: all.length - new Set(all).size,
}];
if (values.json) console.log(JSON.stringify({ table }));
else console.table(table);
