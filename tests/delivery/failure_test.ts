import assert from "node:assert/strict";
import { connect, DeadLetter, type Notification, notifyMany, RetryAfter } from "../../mod.ts";
import { patient, test, type TestContext, until } from "../harness/mod.ts";
import { said } from "../faults/_support/logs.ts";
import { numbers, publish, Running } from "../faults/_support/running.ts";

/** Publishes payloads, each with a key. */
async function publishKeyed(
  context: TestContext,
  ...pairs: [key: string | null, payload: unknown][]
) {
  await notifyMany(
    context.admin,
    pairs.map(([key, payload]) => ({ channel: "c", payload, ...(key === null ? {} : { key }) })),
  );
}

/** What was handed to the handler, as `payload/attempt`. */
const tries = (running: Running) => running.inbox.items.map((n) => `${n.payload}/${n.attempt}`);

/** The dead letters of consumer c. */
async function dead(context: TestContext) {
  return await context.sql(
    `select id::int, channel, key, payload, attempts, error from hark.dead
      where consumer = 'c' order by id`,
  );
}

async function deadLetter(context: TestContext) {
  await until(async () => (await dead(context)).length > 0, { what: "a dead letter" });
  return (await dead(context))[0];
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

for (const keyed of [true, false]) {
  const which = keyed ? "each with its key" : "without keys";
  test(`one of twenty always fails, ${which}: the others are handled at once, and it becomes a dead letter`, async (context) => {
    const db = context.use(await connect(context.url));
    let broken = true;
    await publishKeyed(
      context,
      ...numbers(1, 20).map((n) => [keyed ? `k${n}` : null, n] as [string | null, number]),
    );
    const running = context.use(
      new Running(db, {
        maxAttempts: 3,
        retry: { initial: patient(500), maximum: patient(500) },
        handle: (n) => {
          if (broken && n.payload === 7) throw new Error("no such account: 7");
        },
      }),
    );
    const { id: _, ...letter } = await deadLetter(context);
    const { error, ...rest } = letter;
    assert.deepEqual(rest, {
      channel: "c",
      key: keyed ? "k7" : null,
      payload: 7,
      attempts: 3,
    });
    assert.match(error, /no such account: 7/);
    assert.deepEqual(
      tries(running).slice(0, 20).toSorted(),
      numbers(1, 20).map((n) => `${n}/1`).toSorted(),
      "all were handled once before the failed one was tried again",
    );
    assert.deepEqual(tries(running).slice(20), ["7/2", "7/3"]);
    await settled(context);

    broken = false;
    const [{ moved }] = await context.sql("select hark.retry('c')::int as moved");
    assert.equal(moved, 1);
    await running.atLeast(23);
    await settled(context);
    assert.equal(tries(running).at(-1), "7/1");
    assert.deepEqual(await dead(context), []);
  });
}

test("those of the failing one's key come after it, in order; others do not wait", async (context) => {
  const db = context.use(await connect(context.url));
  await publishKeyed(context, ["a", "a1"], ["b", "b1"], ["a", "a2"], ["b", "b2"], ["a", "a3"]);
  let broken = true;
  const running = context.use(
    new Running(db, {
      retry: { initial: 50, maximum: 50 },
      maxAttempts: 1_000_000,
      handle: (n) => {
        if (n.payload === "a1" && broken) throw new Error("not yet");
      },
    }),
  );
  const ofKey = (key: string) => tries(running).filter((one) => one.startsWith(key));
  await until(() => ofKey("b").length >= 2);
  await publishKeyed(context, ["a", "a4"], ["b", "b3"]); // and those published since
  await until(() => ofKey("b").length >= 3 && ofKey("a").length >= 3);
  broken = false;
  await until(() => running.payloads.includes("a4"));
  await settled(context);
  assert.deepEqual(ofKey("b"), ["b1/1", "b2/1", "b3/1"]);
  const failed = ofKey("a1").length;
  assert.deepEqual(ofKey("a"), [
    ...numbers(1, failed).map((n) => `a1/${n}`),
    ...["a2/1", "a3/1", "a4/1"],
  ]);
});

test("those of a dead letter's key come after it was given up", async (context) => {
  const db = context.use(await connect(context.url));
  await publishKeyed(context, ["a", 1], ["a", 2], ["a", 3]);
  const running = context.use(
    new Running(db, {
      maxAttempts: 2,
      retry: { initial: 50, maximum: 50 },
      handle: (n) => {
        if (n.payload === 1) throw new Error("never");
      },
    }),
  );
  await running.atLeast(4);
  await settled(context);
  assert.deepEqual(tries(running), ["1/1", "1/2", "2/1", "3/1"]);
  assert.deepEqual((await dead(context)).map(({ payload }) => payload), [1]);
});

test('with onFailure "block" nothing overtakes a failing one, and it is never given up', async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 6);
  const running = context.use(
    new Running(db, {
      onFailure: "block",
      retry: { initial: 10, maximum: 10 },
      handle: (n) => {
        if (n.payload === 3 && n.attempt < 25) throw new Error("not yet");
      },
    }),
  );
  await running.atLeast(30);
  await settled(context);
  assert.deepEqual(tries(running), [
    ...["1/1", "2/1", ...numbers(1, 25).map((n) => `3/${n}`)],
    ...["4/1", "5/1", "6/1"],
  ]);
  assert.deepEqual(await dead(context), []);
});

test("a worker that restarts tries at once what failed: attempts go on, its key stays in order", async (context) => {
  const db = context.use(await connect(context.url));
  await publishKeyed(context, ["a", 1], ["b", 2], ["a", 3]);
  const first = new Running(db, {
    retry: { initial: 600_000, maximum: 600_000 },
    handle: (n) => {
      if (n.payload === 1) throw new Error("not yet");
    },
  });
  await first.atLeast(2);
  await first.stop();
  assert.deepEqual(tries(first), ["1/1", "2/1"]);
  const second = context.use(new Running(db, {}));
  await publishKeyed(context, ["a", 4], ["b", 5]);
  await second.atLeast(4);
  await settled(context);
  const ofKey = (...payloads: number[]) =>
    tries(second).filter((one) => payloads.includes(parseInt(one)));
  assert.deepEqual(ofKey(1, 3, 4), ["1/2", "3/1", "4/1"]);
  assert.deepEqual(ofKey(5), ["5/1"]);
});

test("RetryAfter says when it is tried again, sooner or later than the usual wait", async (context) => {
  const db = context.use(await connect(context.url));
  await publishKeyed(context, ["later", 1], ["sooner", 2]);
  const at = new Map<string, number>();
  const running = context.use(
    new Running(db, {
      retry: { initial: 60_000, maximum: 60_000 },
      handle: (n) => {
        at.set(`${n.payload}/${n.attempt}`, performance.now());
        if (n.attempt === 1) throw new RetryAfter(n.payload === 1 ? 1500 : 20, "busy");
      },
    }),
  );
  await running.atLeast(4, { deadline: 15_000 });
  const waited = (n: number) => at.get(`${n}/2`)! - at.get(`${n}/1`)!;
  assert(waited(1) >= 1450, `${waited(1)} ms`);
  assert(waited(2) < 30_000, `${waited(2)} ms`);
});

test("DeadLetter gives it up at the first attempt, with its reason", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const running = context.use(
    new Running(db, {
      handle: (n) => {
        if (n.payload === 2) {
          throw new DeadLetter("no such customer", { cause: new Error("404\0 not found") });
        }
      },
    }),
  );
  await running.atLeast(3);
  const letter = await deadLetter(context);
  assert.deepEqual([letter.payload, letter.attempts], [2, 1]);
  assert.match(letter.error, /no such customer/);
  await settled(context);
  assert.deepEqual(tries(running), ["1/1", "2/1", "3/1"]);
});

test("more waiting ones than maxWaiting stop the partition, which says so, until there is room", async (context) => {
  const db = context.use(await connect(context.url));
  const since = Date.now();
  let broken = true;
  const handled = (n: Notification) => {
    if (broken && n.payload === 0) throw new Error("not yet");
  };
  await publishKeyed(context, ["a", 0]);
  const running = context.use(
    new Running(db, {
      maxWaiting: 10,
      maxAttempts: 1_000_000, // or it is given up on a slow machine, and frees those behind it
      retry: { initial: 50, maximum: 200 },
      handle: handled,
    }),
  );
  await running.atLeast(1);
  await publishKeyed(context, ...numbers(1, 50).map((n) => ["a", n] as [string, number]));
  await said("error", /partition 0 has 1[01] waiting notifications/, since);
  const [{ count }] = await context.sql("select count(*)::int from hark.waiting");
  assert(count <= 10 + 1, `${count} wait`);
  await publishKeyed(context, ["b", 51]);
  broken = false;
  await until(() => running.payloads.includes(51));
  await settled(context);
  const keyA = running.payloads.filter((n) => n !== 0 && n !== 51);
  assert.deepEqual(keyA, numbers(1, 50), "none is lost, and all are in order");
});
