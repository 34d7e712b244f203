/**
 * Reads 100,000 notifications with a slow body and says how its memory grew.
 *
 *     slow_reader.ts <url>
 *
 * @module
 */

import { connect, subscribe } from "../../../mod.ts";

await using db = await connect(Deno.args[0]);
let count = 0;
let before = 0;
let peak = 0;
for await (
  const n of subscribe(db, "c", { from: "beginning", pageSize: 2000, pageBytes: 2 << 20 })
) {
  if (n.payload.n !== count++) throw new Error(`${n.payload.n} came as number ${count}`);
  if (count % 1000 === 0) {
    // Slow: whatever could be read ahead in that time would be.
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { rss } = Deno.memoryUsage();
    if (count === 20_000) before = rss;
    peak = Math.max(peak, rss);
  }
  if (count === 100_000) break;
}
console.log(`read ${count}, grew by ${Math.round((peak - before) / 2 ** 20)} MB`);
