/**
 * Fairness: one tenant publishes a burst, then nine others publish a few each. How long do the others
 * wait for their handlers, compared with the same without a burst? And what do turns cost: a drain of
 * many keys with `limits` and without.
 *
 *     deno task bench fair [--burst 10000] [--each 10] [--ms 2] [--concurrency 8]
 *       [--count 10000,50000,100000] [--repeats 5] [--json]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { Consumer, notifyMany } from "@hark/postgres";
import { alternate, flags, median, round } from "./flags.ts";
import { ownDatabase, pause, quantile } from "./own.ts";
import { print, type Row } from "./table.ts";

const given = flags({
  burst: "10000",
  each: "10",
  ms: "2",
  concurrency: "8",
  count: "10000,50000,100000",
  repeats: "5",
});
const concurrency = given.number("concurrency");
const others = [..."bcdefghij"];
await using own = await ownDatabase();
const { db } = own;
let names = 0;

/** Publishes in parts of 1,000. */
async function publish(channel: string, keys: readonly string[]): Promise<void> {
  for (let from = 0; from < keys.length; from += 1000) {
    const part = keys.slice(from, from + 1000);
    await notifyMany(db, part.map((key) => ({ channel, key, payload: performance.now() })));
  }
}

/** Fails if the notifications of a key were not handled in their order. */
class Order {
  readonly #last = new Map<string | null, number>();

  note({ id, key }: { readonly id: number; readonly key: string | null }): void {
    const last = this.#last.get(key) ?? 0;
    if (id <= last) throw new Error(`${id} of ${key} was handled after ${last}`);
    this.#last.set(key, id);
  }
}

/** The waits of the others from publishing to the handler, in ms. */
async function waits(burst: number, limits: boolean): Promise<number[]> {
  const channel = `fair${++names}`;
  const order = new Order();
  const waited: number[] = [];
  const done = Promise.withResolvers<void>();
  const consumer = new Consumer<number>(db, {
    id: channel,
    channels: channel,
    concurrency,
    ...(limits ? { limits: {} } : {}),
    handle: async (notification) => {
      order.note(notification);
      if (notification.key !== "a") waited.push(performance.now() - notification.payload);
      await pause(given.number("ms"));
      if (waited.length === others.length * given.number("each")) done.resolve();
    },
    onError: (error) => done.reject(error),
  });
  const run = consumer.run();
  await consumer.ready;
  await publish(channel, Array.from({ length: burst }, () => "a"));
  const few = Array.from({ length: given.number("each") }, () => others).flat();
  await publish(channel, few);
  await done.promise;
  await consumer.stop();
  await run;
  await db.query("select hark.remove_consumer($1)", [channel]);
  return waited;
}

/** How many are handled in a second by a handler that does nothing. */
async function drained(count: number, limits: boolean): Promise<number> {
  const channel = `drain${++names}`;
  const order = new Order();
  const consumer = new Consumer(db, {
    id: channel,
    channels: channel,
    from: "now",
    concurrency,
    ...(limits ? { limits: {} } : {}),
    handle: (notification) => order.note(notification),
  });
  await consumer.drain(); // registers it
  await publish(channel, Array.from({ length: count }, (_, n) => `key ${n % 100}`));
  const begun = performance.now();
  const handled = await consumer.drain();
  if (handled !== count) throw new Error(`${handled} of ${count} were handled`);
  const seconds = (performance.now() - begun) / 1000;
  await db.query("select hark.remove_consumer($1)", [channel]);
  return Math.round(count / seconds);
}

const burst = given.number("burst");
const times = await alternate(given.repeats, [
  ["no burst, limits: {}", () => waits(0, true)],
  ["burst, limits: {}", () => waits(burst, true)],
  ["burst, no limits", () => waits(burst, false)],
]);
const p99 = (name: string, share = 0.99) =>
  median(times.get(name as never)!.map((waited) => quantile(waited, share)));
const counts = given.numbers("count");
// Compiles what is measured below.
for (const limits of [false, true]) await drained(counts[0]!, limits);
const rows: Row[] = [...times.keys()].map((name) => ({
  measured: name,
  "median ms": round(p99(name, 0.5)),
  "99 % ms": round(p99(name)),
  "a second": null,
  ratio: round(p99(name) / p99("no burst, limits: {}")),
}));
for (const count of counts) {
  const rates = await alternate(given.repeats, [
    ["no limits", () => drained(count, false)],
    ["limits: {}", () => drained(count, true)],
  ]);
  const without = rates.get("no limits")!;
  for (const [name, all] of rates) {
    rows.push({
      measured: `drain of ${count}, ${name}`,
      "median ms": null,
      "99 % ms": null,
      "a second": median(all),
      ratio: round(median(all.map((rate, pair) => rate / without[pair]!))),
    });
  }
}
await print({
  title: "One tenant's burst beside nine others",
  rows,
  notes: [
    `A tenant publishes ${burst}, then nine others ${given.number("each")} each; handlers take ` +
    `${
      given.number("ms")
    } ms, ${concurrency} at a time. The time is from publishing to the handler, of the ` +
    `others. Medians of ${given.repeats} in turns. The order of each key was checked. The ratio of a ` +
    `drain is the median of the pairs.`,
  ],
}, given);
