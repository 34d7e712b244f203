import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import {
  cleanup,
  connect,
  Consumer,
  type Duration,
  notify,
  RetryAfter,
  status,
} from "../../mod.ts";
import { pause } from "../../src/database/bell.ts";
import { formatDuration, parseDuration } from "../../src/duration.ts";
import { test } from "../harness/mod.ts";

test("a duration is milliseconds, or text with units, the same everywhere", () => {
  const known: [string, number][] = [
    ["250ms", 250],
    ["10s", 10_000],
    ["1.5h", 5_400_000],
    ["1h30m", 5_400_000],
    ["30d", 2_592_000_000],
    ["2w", 1_209_600_000],
    ["1w2d3h4m5s6ms", 788_645_006],
    ["0.1s", 100],
    ["0", 0],
    ["0d", 0],
  ];
  for (const [text, ms] of known) assert.equal(parseDuration(text), ms, text);
  for (const text of ["", "30", "d", "30 d", "1m1h", "1h1h", "-1s", "1e3s", "+1s", ".5s", "1M"]) {
    assert.equal(parseDuration(text), undefined, text);
  }
});

test("a duration that is written can be read", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 10_000_000_000_000 }), (ms) => {
    assert.equal(parseDuration(formatDuration(ms)), ms);
  }));
  assert.equal(formatDuration(2_592_000_000), "30d");
  assert.equal(formatDuration(5_400_000), "1h30m");
});

test("every option that is a duration takes text, and refuses the rest with its bounds", async (context) => {
  const db = context.admin;
  const options = { id: "a", channels: "a", handle() {} };
  new Consumer(db, {
    ...options,
    timeout: "1m",
    lease: "15s",
    pollInterval: "3s",
    acknowledgeInterval: "200ms",
    stopTimeout: "30s",
    retry: { initial: "500ms", maximum: "1h" },
  });
  assert.equal(new RetryAfter("1m30s").delay, 90_000);
  const refused: [(wrong: Duration) => unknown, RegExp][] = [
    [(timeout) => new Consumer(db, { ...options, timeout }), /^timeout is .* from 1 to 2000000000/],
    [
      (lease) => new Consumer(db, { ...options, lease }),
      /^lease is .* from 100 to 86400000 \(1d\)/,
    ],
    [(maximum) => new Consumer(db, { ...options, retry: { maximum } }), /^retry.maximum is .*366d/],
    [(delay) => new RetryAfter(delay), /^the delay of RetryAfter is .* \(366d\)/],
    [(delay) => notify(db, "a", 1, { delay }), /^delay is .* \(3650d\)/],
    [(within) => notify(db, "a", 1, { dedupe: { key: "a", within } }), /^within is .* \(3650d\)/],
    [(olderThan) => cleanup(db, { olderThan }), /^olderThan is .* \(100000d\)/],
    [
      (dropInactive) => cleanup(db, { olderThan: "1d", dropInactive }),
      /^dropInactive is .*100000d/,
    ],
    [(warnAfter) => status(db, { warnAfter }), /^warnAfter is .* \(100000d\)/],
  ];
  for (const [call, message] of refused) {
    for (const wrong of [-1, NaN, Infinity, "30", "10 minutes", "-5s"]) {
      await assert.rejects(async () => await call(wrong), (error: Error & { code?: string }) => {
        assert.equal(error.code, "BAD_OPTION");
        assert.match(error.message, wrong === Infinity ? / is Infinity/ : message);
        assert.match(error.message, wrong === Infinity ? /./ : /"250ms", "10s", "1h30m" or "30d"/);
        assert.ok(error.message.includes(String(wrong)), error.message);
        return true;
      });
    }
  }
});

test("connect() bounds each duration, in its options and in the URL, below what a timer can hold", async (context) => {
  const names = [
    "connectTimeout",
    "queryTimeout",
    "readerTimeout",
    "heartbeat",
    "heartbeatTimeout",
  ];
  for (const name of [...names, "maxReconnectDelay"]) {
    for (
      const wrong of [2_000_000_001, 2 ** 31, 2 ** 53, "24d", Infinity, NaN, 0, 1.5, "10", null]
    ) {
      await assert.rejects(
        connect(context.url, { [name]: wrong as Duration }),
        { code: "BAD_OPTION", message: new RegExp(`^${name} is .*from 10? to 2000000000 \\(`) },
        `${name} ${wrong}`,
      );
    }
    for (const right of [2_000_000_000, "23d", "1h"]) {
      const db = await connect(context.url, { [name]: right });
      const { rows } = await db.query("select pg_sleep(0.01), 1 as one");
      assert.equal(rows[0].one, 1, name);
      await db.close();
    }
  }
  const parameters = ["query", "statement", "lock", "idle_in_transaction_session"];
  for (const name of parameters.map((one) => `${one}_timeout`)) {
    const url = (value: string) => `${context.url}&${name}=${value}`;
    for (const wrong of ["2147483648", "3000000000", "-1", "10s", "1.5", "x", ""]) {
      await assert.rejects(connect(url(wrong)), {
        code: "BAD_OPTION",
        message: `the parameter ${name} of the database URL is "${wrong}". ` +
          "Give whole milliseconds from 0 to 2000000000.",
      });
    }
    const db = await connect(url("2000000000"));
    await db.query("select pg_sleep(0.01)");
    await db.close();
  }
});

test("a handler's timeout of three weeks aborts nothing", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  let aborted: unknown;
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    timeout: 2_000_000_000,
    async handle(_, { signal }) {
      await db.query("select pg_sleep(0.05)");
      aborted = signal.aborted;
    },
  });
  assert.equal(await consumer.drain(), 1);
  assert.equal(aborted, false);
  assert.deepEqual(await context.sql("select * from hark.waiting"), []);
});

test("a wait of any length does not end at once", async () => {
  const stop = new AbortController();
  let ended = false;
  const waits = [2 ** 31, 2 ** 40, Infinity].map((ms) =>
    pause(ms, stop.signal).then(() => ended = true)
  );
  await pause(20);
  assert.equal(ended, false);
  stop.abort();
  await Promise.all(waits);
});

test("SQL reads the same text as an interval", async (context) => {
  for (const text of ["250ms", "10s", "1h30m", "30d", "2w", "1.5h"]) {
    const [row] = await context.sql(
      `select (extract(epoch from '${text}'::interval) * 1000)::float8 as ms`,
    );
    assert.equal(row!.ms, parseDuration(text), text);
  }
});
