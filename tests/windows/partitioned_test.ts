/** Random interleavings of workers and partitions: each notification is delivered once, keys in order. */

import assert from "node:assert/strict";
import { once, ownServer } from "../harness/mod.ts";
import { holds } from "./_support/partitioned.ts";
import { type Break, replaceIn } from "./_support/staging.ts";

/** Another seed on each run; a failure prints it. */
const seed = Math.floor(Math.random() * 2 ** 31);

async function server() {
  const server = await ownServer({ settings: { autovacuum: "off" } });
  await server.sql("select hark.incarnation()");
  return server;
}

Deno.test("however partitions are split, merged, taken over and changed in number, each notification is delivered once and keys stay in order", async () => {
  await using own = await server();
  await holds(own.url, { runs: 150, seed });
});

/** Operations run one by one, so that a seed that finds a fault finds it always. */
const faults: readonly Break[] = [
  {
    rule: "the number changes before every partition has read to the barrier",
    in: "hark.turn_partitions",
    from: "and (s.target is not null or s.seen <> c.barrier)",
    to: "and false",
  },
  {
    rule: "windows go past the barrier",
    in: "hark.window",
    from: "if is_new and bounded then",
    to: "if false then",
  },
  {
    rule: "the barrier is a stored mark, although a stored position has seen a later private one",
    in: "hark.turn_partitions",
    from: "select k.mark from hark.partitions s",
    to: "select k.mark from (select where false) none, hark.partitions s",
  },
];

Deno.test("random interleavings find each of these faults of partitions", async (t) => {
  for (const fault of faults) {
    await t.step(fault.rule, async () => {
      await using own = await server();
      await replaceIn(own.url, fault);
      await assert.rejects(
        holds(own.url, { runs: 300, seed: 1, shrink: false }),
        /Property failed/,
      );
      await once(own.url, "select 1"); // the server did not fail, the promise did
    });
  }
});
