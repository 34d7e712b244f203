/** Random interleavings: every committed notification reaches every reader once, and none is cleaned unread. */

import assert from "node:assert/strict";
import { once, ownServer } from "../harness/mod.ts";
import { holds } from "./_support/interleavings.ts";
import { type Break, replaceIn } from "./_support/staging.ts";

/** Another seed on each run; a failure prints it. */
const seed = Math.floor(Math.random() * 2 ** 31);

async function server() {
  const server = await ownServer({
    settings: { autovacuum: "off", max_prepared_transactions: "10" },
  });
  await server.sql("select hark.incarnation()");
  return server;
}

Deno.test("whatever the interleaving, each reader is given each notification once, in the order of ids in a window", async () => {
  await using own = await server();
  await holds(own.url, { runs: 150, seed });
});

Deno.test("whatever the interleaving, cleaning removes nothing that a consumer has not read", async () => {
  await using own = await server();
  await holds(own.url, { runs: 100, seed, cleaning: true });
});

/** Operations run one by one, so that a seed that finds a fault finds it always. */
const faults: readonly (Break & { cleaning?: boolean; seed?: number })[] = [
  {
    rule: "the floor does not lag",
    in: "hark.window_advance",
    from: "w.floor := p.seen_max",
    to: "w.floor := p.target_max",
  },
  {
    rule: "a new straggler gets the new floor",
    in: "hark.window_advance",
    from: "p.stragglers, p.lows, p.floor)",
    to: "p.stragglers, p.lows, w.floor)",
  },
  {
    rule: "a start forgets who is running",
    in: "hark.start_position",
    from: "into p.stragglers from pg_snapshot_xip(p.seen) x (xid);",
    to: "into p.stragglers from pg_snapshot_xip(p.seen) x (xid) where false;",
  },
  {
    rule: "a window takes what has committed by now",
    in: "hark.page",
    from: "s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, target)",
    to: "s.xid = any (finished))",
  },
  {
    rule: "a page goes past its window without taking a number",
    in: "hark.page",
    from: "if pg_current_xact_id() is not null then",
    to: "if true then",
    seed: 6, // finds it early
  },
  {
    rule: "cleaning goes by age alone",
    in: "hark.clean",
    from: "where (forced or floor_of_all",
    to: "where (true or forced or floor_of_all",
    cleaning: true,
  },
  {
    rule: "cleaning counts a window as read that is only open",
    in: "hark.passed",
    from: "and $1 operator(pg_catalog.<=) $7",
    to: "and true",
    cleaning: true,
  },
];

Deno.test("random interleavings find each of these faults", async (t) => {
  for (const fault of faults) {
    await t.step(fault.rule, async () => {
      await using own = await server();
      await replaceIn(own.url, fault);
      await assert.rejects(
        holds(own.url, {
          runs: 300,
          seed: fault.seed ?? 1,
          cleaning: fault.cleaning ?? false,
          shrink: false,
        }),
        /Property failed/,
      );
      await once(own.url, "select 1"); // the server did not fail, the promise did
    });
  }
});
