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
    from: "and ((s.position).target is not null or (s.position).seen::text <> c.barrier::text)",
    to: "and false",
  },
  {
    rule: "windows go past the barrier",
    in: "hark.window",
    from: "when p.target is null and c.barrier is not null then",
    to: "when false then",
  },
  {
    rule: "a window opened alike begins at the floor whatever has ended",
    in: "hark.window_open_to",
    from: "least(p.floor, min(t.low))",
    to: "p.floor",
  },
  {
    rule: "a window opened alike ends where the last one did",
    in: "hark.window_open_to",
    from: "greatest(p.seen_max, $3)",
    to: "p.seen_max",
  },
  {
    rule: "positions become one that have not seen the same",
    in: "hark.merged",
    from: "if (a).seen::text <> (b).seen::text or (a).target is not null or (b).target is not null",
    to: "if false",
  },
  {
    rule: "positions that become one forget who is running",
    in: "hark.merged",
    from: "return m;",
    to: "m.stragglers := '{}'; m.lows := '{}'; return m;",
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
