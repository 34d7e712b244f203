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
    in: "hark.new_mark",
    from: "m.floor := last.max_id;",
    to: "m.floor := m.max_id;",
  },
  {
    rule: "the floor of a private mark does not lag",
    in: "hark.new_mark",
    from: "m.floor := last.max_id;",
    to: "m.floor := case when private then m.max_id else last.max_id end;",
  },
  {
    rule: "a private mark gives a transaction a new low",
    in: "hark.new_mark",
    from: "else (select k.low from",
    to: "when private then last.max_id else (select k.low from",
  },
  {
    rule: "a transaction that is new is not asked whether it came after the fence",
    in: "hark.new_mark",
    from: "when x.xid > last.fence then last.max_id",
    to: "when x.xid >= last.upper then last.max_id",
  },
  {
    rule: "each mark gives a transaction a new low",
    in: "hark.new_mark",
    from: "else (select k.low from",
    to: "else (select last.max_id from",
  },
  {
    rule: "a mark is not cut while the sequence stands still",
    in: "hark.new_mark",
    from: "if m.max_id = last.max_id and last.floor = last.max_id and last.life = m.life",
    to: "if m.max_id = last.max_id and last.life = m.life and last.number > 0",
  },
  {
    rule: "a window takes what has committed by now",
    in: "hark.page",
    from: "s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, ended)",
    to: "s.xid = any (finished))",
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
