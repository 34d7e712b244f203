/** Whatever a handler throws: its notification has failed, and the others go on. */

import assert from "node:assert/strict";
import { connect, Consumer, notifyMany } from "../../mod.ts";
import "../faults/_support/logs.ts";
import { publish } from "../faults/_support/running.ts";
import { patient, test, until } from "../harness/mod.ts";

function thrown(): unknown[] {
  const itself = new AggregateError([], "");
  itself.errors.push(itself);
  const caused = new Error("caused by itself");
  caused.cause = caused;
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return [
    new Error("U+0000: a\0b"),
    new Error("a lone surrogate: \ud800"),
    new Error("'; drop table hark.dead; --"),
    new Error("é".repeat(3_000_000)),
    Object.assign(new Error(), { message: 7 }),
    itself,
    caused,
    "\0",
    "",
    null,
    undefined,
    7n,
    Symbol("s"),
    () => {},
    Object.create(null),
    {
      toString() {
        throw 1;
      },
    },
    {
      get name() {
        throw new Error("a getter");
      },
    },
    new Proxy({}, { get: () => assert.fail("a trap") }),
    new Proxy(new Error(), { getPrototypeOf: () => assert.fail("a trap") }),
    proxy,
  ];
}

for (const transactional of [false, true]) {
  test(
    `whatever a handler throws becomes a dead letter or waits, and the next ones are handled${
      transactional ? ", in a transaction" : ""
    }`,
    async (context) => {
      const db = context.use(await connect(context.url, { readerTimeout: patient(8000) }));
      const errors = thrown();
      await notifyMany(db, [
        ...errors.map((_, n) => ({ channel: "c", payload: n, key: `${n}` })),
        { channel: "c", payload: "good" },
      ]);
      for (const maxAttempts of [1, 2]) {
        const told: unknown[] = [];
        let good = 0;
        const consumer = new Consumer(db, {
          id: `c${maxAttempts}`,
          channels: "c",
          transactional,
          maxAttempts,
          retry: { initial: "1h", maximum: "1h" },
          onError: (error) => void told.push(error),
          handle({ payload }) {
            if (payload !== "good") throw errors[payload as number];
            good++;
          },
        });
        await consumer.drain();
        assert.equal(good, 1);
        assert.equal(told.length, errors.length);
        const [{ dead, waiting }] = await context.sql(
          `select (select count(*)::int from hark.dead where consumer = $1) as dead,
          (select count(*)::int from hark.waiting where consumer = $1) as waiting`,
          [`c${maxAttempts}`],
        );
        assert.deepEqual(
          [dead, waiting],
          maxAttempts === 1 ? [errors.length, 0] : [0, errors.length],
        );
      }
    },
  );
}

test("thousands that fail at once with a whole response as their message wait, each with the start of it", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 2000);
  const response = new Error(`HTTP 500: ${"ü".repeat(200_000)}`);
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    concurrency: 100,
    retry: { initial: "1h", maximum: "1h" },
    async handle() {
      await Promise.resolve();
      throw response;
    },
  });
  const running = consumer.run();
  try {
    const all = until(async () => {
      const [{ rows }] = await context.sql("select count(*)::int as rows from hark.waiting");
      return rows === 2000;
    }, { what: "2000 rows in hark.waiting" });
    await Promise.race([all, running.then(() => assert.fail("the consumer has ended"))]);
    const rows = await context.sql("select last_error as error from hark.waiting");
    for (const { error } of rows) assert.match(error, /^HTTP 500: ü{50,9989}…$/);
  } finally {
    await consumer.stop();
    await running;
  }
});

test("a long message of an error is stored as its first 10,000 characters, and no character is cut in two", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 1);
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    maxAttempts: 1,
    handle() {
      throw new Error("😀".repeat(6000));
    },
  });
  await consumer.drain();
  const [{ error }] = await context.sql("select error from hark.dead");
  assert(error === `${"😀".repeat(4999)}…`, `${error.length} characters`);
});
