import assert from "node:assert/strict";
import { connect, notifyMany } from "../../mod.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { numbers, Running } from "../faults/_support/running.ts";
import { startWorker } from "./_support/fleet.ts";

/** Publishes payloads whose first letter is their key. */
async function publish(context: TestContext, ...names: string[]): Promise<void> {
  await notifyMany(
    context.admin,
    names.map((name) => ({ channel: "c", payload: name, key: name[0]! })),
  );
}

/** Waits until nothing waits and nothing is unread. */
async function settled(context: TestContext): Promise<void> {
  await until(async () => {
    const [row] = await context.sql(
      `select (select count(*)::int from hark.waiting) + (select sum(unread)::int from hark.status()) as left`,
    );
    return row.left === 0;
  }, { what: "all to be settled" });
}

for (const transactional of [false, true]) {
  const which = transactional ? "with transactions" : "without transactions";
  test(`one that waits to be tried again while an older one is being handled comes once to a successor, ${which}`, async (context) => {
    await context.sql("create table results (payload text, worker integer)");
    await publish(context, "a1", "b1", "b2", "c1");
    // It is at a1 when it is killed; b1 has failed, b2 waits behind it, c1 is handled.
    await using first = startWorker(context.url, "first", {
      options: {
        concurrency: 4,
        transactional,
        retry: { initial: 400, maximum: 400 },
        maxAttempts: 1_000_000, // b1 fails until the worker is killed, however late that is
      },
      trap: { payload: "a1", do: "hang" },
      fails: ["b1"],
      say: true,
    });
    await first.line(/^at "a1"/);
    await first.line(/^handled "c1"/);
    await until(
      async () => (await context.sql("select from hark.waiting where key = 'b'")).length === 2,
      { what: "b1 and b2 to wait" },
    );
    // It says so before it commits.
    if (transactional) {
      await until(async () => (await context.sql("select from hark.done")).length === 1);
    }
    first.kill("SIGKILL");
    await first.ended();
    const db = context.use(await connect(context.url));
    const successor = context.use(
      new Running(db, {
        concurrency: 4,
        transactional,
        handle: async (n, context) => {
          if (!transactional) return;
          await context.tx.query("insert into results values ($1, 2)", [n.payload]);
        },
      }),
    );
    await successor.atLeast(3);
    await settled(context);
    await publish(context, "d1");
    await successor.atLeast(4);
    await settled(context);
    const times = (name: string) => successor.payloads.filter((payload) => payload === name).length;
    assert.deepEqual(["a1", "b1", "b2"].map(times), [1, 1, 1], successor.payloads.join(" "));
    const keyB = successor.payloads.filter((payload) => String(payload)[0] === "b");
    assert.deepEqual(keyB, ["b1", "b2"]);
    assert(times("c1") <= (transactional ? 0 : 1), "c1 may be repeated, but not where it is known");
  });
}

test("what waited and was handled in a transaction is not handled again, wherever a successor begins", async (context) => {
  await context.sql("create table results (payload text, worker integer)");
  await publish(context, "a1", "b1", "b2");
  const transactional = true;
  await using first = startWorker(context.url, "first", {
    options: { concurrency: 4, transactional, retry: { initial: 300, maximum: 300 } },
    trap: { payload: "a1", do: "hang" },
    failsOnce: ["b1"],
    say: true,
  });
  await first.line(/^at "a1"/);
  await first.line(/^handled "b2"/);
  await until(async () => (await context.sql("select from hark.waiting")).length === 0);
  first.kill("SIGKILL");
  await first.ended();
  const db = context.use(await connect(context.url));
  const successor = context.use(
    new Running(db, {
      transactional,
      handle: (n, { tx }) => tx.query("insert into results values ($1, 2)", [n.payload]),
    }),
  );
  await successor.atLeast(1);
  await publish(context, "d1");
  await until(() => successor.payloads.includes("d1"));
  await settled(context);
  assert.deepEqual(successor.payloads, ["a1", "d1"]);
});

test("one at a time: what is read while one waits does not overtake what was read before", async (context) => {
  const db = context.use(await connect(context.url));
  const others = numbers(1, 40).map((n) => `b${n}`);
  await publish(context, "a1", ...others, "a2");
  const running = context.use(
    new Running(db, {
      retry: { initial: 3000, maximum: 3000 },
      handle: async (n) => {
        if (n.payload === "a1" && n.attempt === 1) throw new Error("not yet");
        await new Promise((resolve) => setTimeout(resolve, 20));
      },
    }),
  );
  await running.atLeast(5);
  await publish(context, "a3", "b41");
  await running.atLeast(45);
  await settled(context);
  assert.deepEqual(
    running.payloads.filter((payload) => String(payload)[0] === "a"),
    ["a1", "a1", "a2", "a3"],
  );
});
