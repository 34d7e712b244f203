/**
 * Subscribes to a busy channel, and to a quiet one whose body takes its second notification late.
 *
 *     small_reader.ts <url> <count>
 *
 * @module
 */

import { connect, notifyMany, subscribe } from "../../../mod.ts";

await using db = await connect(Deno.args[0]);
const ready = ["busy", "quiet"].map(() => Promise.withResolvers<void>());
const [busy, quiet] = ["busy", "quiet"].map((channel, n) =>
  subscribe(db, channel, { onReady: () => ready[n]!.resolve() })
);
const [ofBusy, ofQuiet] = [busy![Symbol.asyncIterator](), quiet![Symbol.asyncIterator]()];
const count = Number(Deno.args[1]);
const text = crypto.randomUUID().repeat(25_000);
const next = [ofBusy.next(), ofQuiet.next()];
for (const { promise } of ready) await promise;
for (let n = 0; n < count; n++) {
  await notifyMany(db, [
    { channel: "busy", payload: text },
    { channel: "quiet", payload: `small ${n}, with some words` },
  ]);
  await next[0];
  // From the third on it has a place at the edge, and takes nothing.
  if (n < 2) await next[1];
  next[0] = ofBusy.next();
  if (n < 2) next[1] = ofQuiet.next();
}
let taken = 2;
for (let one = next[1]; taken < count; one = ofQuiet.next()) {
  const { value } = await one!;
  if (!value!.payload.startsWith(`small ${taken},`)) throw new Error(`${value} came as ${taken}`);
  taken++;
}
console.log(`took ${taken}`);
Deno.exit();
