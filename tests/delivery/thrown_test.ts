/** Whatever a handler throws: its notification has failed, and the others go on. */

import assert from "node:assert/strict";
import { connect, Consumer, notifyMany } from "../../mod.ts";
import "../faults/_support/logs.ts";
import { patient, test } from "../harness/mod.ts";

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
