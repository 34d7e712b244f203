/** Consumers that read in common: what goes wrong for one costs the others nothing. */

import assert from "node:assert/strict";
import { connect, notify } from "../../mod.ts";
import { Gate, NEVER_POLL, numbers, Running } from "../faults/_support/running.ts";
import { type Client, test, type TestContext, until } from "../harness/mod.ts";
import { many, publishEach, together } from "./_support/common.ts";
import { replaceIn } from "../windows/_support/staging.ts";

/** Has pages in common wait before they look at definitions, or after that, until the client rolls back. */
async function held(
  { url, client }: TestContext,
  when: "before" | "after" = "before",
): Promise<Client> {
  const from = when === "before" ? "with asked as" : "perform pg_catalog.nextval";
  await replaceIn(url, {
    rule: "",
    in: "hark.common_window",
    from,
    to: `perform pg_advisory_xact_lock_shared(77); ${from}`,
  });
  const gate = await client();
  await gate.query("begin; select pg_advisory_xact_lock(77);");
  return gate;
}

const waits = async ({ sql }: TestContext): Promise<boolean> =>
  (await sql(
    `select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'
       and query like '%hark.common_window%'`,
  )).length > 0;

test("a page in common that does not come is not waited for", async (context) => {
  const db = context.use(await connect(context.url));
  const all = await many(context, db, 20);
  let last = await together(context, all);
  const gate = await held(context);
  await until(async () => {
    if (await waits(context)) return true;
    await publishEach(context, 20, ++last);
    return false;
  }, { what: "a page in common" });
  for (const one of all) await one.atLeast(last);
  await publishEach(context, 20, ++last);
  for (const one of all) await one.atLeast(last);
  await gate.query("rollback");
  // What comes late is not taken.
  for (const _ of numbers(1, 5)) {
    await publishEach(context, 20, ++last);
    for (const one of all) await one.atLeast(last);
  }
  for (const one of all) assert.deepEqual(one.payloads, numbers(1, last));
});

test("a page in common that fails is read by each", async (context) => {
  const db = context.use(await connect(context.url));
  const all = await many(context, db, 20);
  let last = await together(context, all);
  await replaceIn(context.url, {
    rule: "",
    in: "hark.common_window",
    from: "if channels is null then",
    to: "raise exception 'no'; if channels is null then",
  });
  for (const _ of numbers(1, 5)) {
    await publishEach(context, 20, ++last);
    for (const one of all) await one.atLeast(last);
  }
  for (const one of all) assert.deepEqual(one.payloads, numbers(1, last));
});

const changes = [
  [
    "loses its partition to a seek",
    "select hark.seek('c3', 'id', (select max(id) from hark.log))",
    false,
  ],
  ["is removed", "select hark.remove_consumer('c3')", true],
  ["gets another number of partitions", "select hark.repartition('c3', 3)", false],
] as const;

for (const when of ["before", "after"] as const) {
  for (const [what, act, isGone] of changes) {
    test(`one that ${what} ${when} a page in common looks at it: the others go on`, async (context) => {
      const db = context.use(await connect(context.url, { heartbeat: 60_000 }));
      const running: Running[] = [];
      const all = numbers(0, 9).map((n) =>
        new Running(db, { id: `c${n}`, channels: `c${n}`, pollInterval: NEVER_POLL })
      );
      for (const one of all) {
        running.push(one);
        await one.consumer.ready;
      }
      try {
        let last = await together(context, all);
        // Nothing tells the worker of it, but the page.
        const gate = await held(context, when);
        const client = await context.client();
        await client.query("set hark.wake = off");
        await client.query("begin");
        // The page has begun. It says what it has found after this.
        await until(async () => {
          if (await waits(context)) return true;
          await publishEach(context, 10, ++last);
          return false;
        }, { what: "a page in common" });
        await client.query(act);
        await client.query("commit");
        await gate.query("rollback");
        const others = all.filter((_, n) => n !== 3);
        for (const one of others) await one.atLeast(last);
        for (const _ of numbers(1, 5)) {
          await publishEach(context, 10, ++last);
          for (const one of others) await one.atLeast(last);
        }
        for (const one of others) assert.deepEqual(one.payloads, numbers(1, last));
        if (isGone) await assert.rejects(all[3]!.done, { code: "NO_CONSUMER" });
        else {
          await until(() => all[3]!.payloads.includes(last), { deadline: 40_000 });
          const seen = [...new Set(all[3]!.payloads)];
          assert.deepEqual(seen, seen.toSorted((a, b) => Number(a) - Number(b)));
        }
      } finally {
        for (const one of running) if (!one.over) await one.stop();
      }
    });
  }
}

test("a handler that hangs, and one that has no room, hold up no other", async (context) => {
  const db = context.use(await connect(context.url));
  const gates = [new Gate("hang"), new Gate("full")];
  const all = await many(context, db, 20, (n) => n < 2 ? { handle: gates[n]!.handle } : {});
  let last = await together(context, all);
  await notify(db, "c0", "hang");
  await gates[0]!.reached();
  await context.sql(
    "select hark.notify('c1', '\"full\"') from generate_series(1, 9000)",
  );
  await gates[1]!.reached();
  for (const _ of numbers(1, 20)) {
    await publishEach(context, 20, ++last);
    for (const one of all.slice(2)) await one.atLeast(last);
  }
  for (const gate of gates) gate.open();
  await all[0]!.atLeast(last + 1);
  await all[1]!.atLeast(last + 9000, { deadline: 60_000 });
  for (const [n, one] of all.entries()) {
    assert.deepEqual(one.payloads.filter((p) => typeof p === "number"), numbers(1, last), `${n}`);
  }
});

test(
  "payloads of 8 MiB for one keep no other from what comes after",
  { timeout: 90_000 },
  async (context) => {
    const db = context.use(await connect(context.url));
    const all = await many(context, db, 20);
    let last = await together(context, all);
    for (const _ of numbers(1, 3)) {
      await context.sql(
        "select hark.notify('c5', to_jsonb(repeat('x', 8 * 1024 * 1024))) from generate_series(1, 4)",
      );
      await publishEach(context, 20, ++last);
      for (const [n, one] of all.entries()) if (n !== 5) await one.atLeast(last);
    }
    await all[5]!.atLeast(last + 12, { deadline: 60_000 });
    for (const one of all) {
      assert.deepEqual(one.payloads.filter((p) => typeof p === "number"), numbers(1, last));
    }
  },
);

test("rows of a channel whose name comes back otherwise are lost for none", async (context) => {
  const db = context.use(await connect(context.url));
  const all = await many(context, db, 10);
  let last = await together(context, all);
  await replaceIn(context.url, {
    rule: "",
    in: "hark.page",
    from: "json_object_agg(k.id, case when at_once then k.channel else",
    to: "json_object_agg(k.id, case when at_once then k.channel || '?' else",
  });
  for (const _ of numbers(1, 3)) {
    await publishEach(context, 10, ++last);
    for (const one of all) await one.atLeast(last);
  }
  for (const one of all) assert.deepEqual(one.payloads, numbers(1, last));
});
