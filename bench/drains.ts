/**
 * Eight drains that begin at once over two partitions, each on a connection of its own that is open, as eight
 * requests to an edge function: how long until those return that get no partition. The same for a consumer that is
 * new, which they register first. Then a drain with a deadline of 1 s whose handler takes 10 s: when it returns.
 *
 *     deno task bench drains [--repeats 20] [--json]
 *
 * All drains run in one process, which they share with its garbage collector. Works in a database of its own.
 *
 * @module
 */

import { connect, Consumer, type ConsumerOptions, notifyMany } from "@hark/postgres";
import { drain, type DrainOptions } from "../src/edge/mod.ts";
import { flags, median, round } from "./flags.ts";
import { ownDatabase } from "./own.ts";
import { print } from "./table.ts";

const given = flags({ repeats: "20" });
await using own = await ownDatabase();
const some = Array.from({ length: 40 }, (_, n) => ({ channel: "c", payload: n, key: `${n}` }));
const options: ConsumerOptions = { id: "c", channels: "c", partitions: 2, handle() {} };
await new Consumer(own.db, options).drain();

/** A drain as a new request makes it. Gives what it did, and how long that took, in ms. */
async function request(changed: ConsumerOptions, how: DrainOptions) {
  const db = await connect(own.url, { listen: false, poolSize: 1 });
  return {
    async drain() {
      const begun = performance.now();
      const result = await drain(new Consumer(db, { ...options, ...changed }), how);
      return { ...result, took: performance.now() - begun };
    },
    close: () => db.close(),
  };
}

/** How many drains got a partition, by the rounds. */
const drained = new Set<number>();

/** Eight drains at once. Gives when the last returned that got no partition, in ms. */
async function eight(id: string): Promise<number> {
  await notifyMany(own.db, some);
  const open = Promise.withResolvers<void>();
  let returned = 0;
  const requests = await Promise.all(
    Array.from({ length: 8 }, () => request({ id, handle: () => open.promise }, { wait: false })),
  );
  const results = await Promise.all(requests.map(async (one) => {
    const result = await one.drain();
    if (result.handled === 0 && ++returned === 6) open.resolve();
    return result;
  }));
  await Promise.all(requests.map((one) => one.close()));
  const busy = results.filter(({ handled, reason }) => handled === 0 && reason === "busy");
  drained.add(8 - busy.length);
  return Math.max(...busy.map(({ took }) => took));
}

const last: number[] = [];
const lastOfNew: number[] = [];
for (let pass = 0; pass < given.repeats; pass++) {
  last.push(await eight("c"));
  lastOfNew.push(await eight(`new ${pass}`));
}

const late: number[] = [];
for (let pass = 0; pass < Math.min(5, given.repeats); pass++) {
  await notifyMany(own.db, some.slice(0, 2));
  const handle: ConsumerOptions["handle"] = (_, { signal }) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 10_000);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
  const one = await request({ handle: handle! }, { deadline: "1s", wait: false });
  const { reason, took } = await one.drain();
  if (reason !== "deadline") throw new Error(`it ended with ${reason}`);
  late.push(took);
  await one.close();
}

const row = (what: string, times: readonly number[]) => ({
  what,
  "least ms": round(Math.min(...times)),
  "median ms": round(median(times)),
  "most ms": round(Math.max(...times)),
});
await print({
  title: "Drains where time is billed",
  rows: [
    row("of eight at once, the last that gets no partition", last),
    row("the same for a new consumer", lastOfNew),
    row("a deadline of 1 s, a handler of 10 s", late),
  ],
  notes: [
    `${given.repeats} rounds of eight drains. In each, ${
      [...drained].join(" or ")
    } got a partition.`,
    `${late.length} drains with a deadline.`,
  ],
}, given);
