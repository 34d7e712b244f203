/** Crashes of the server under subscriptions that share the live edge. */

import assert from "node:assert/strict";
import { connect, subscribe } from "../../mod.ts";
import { deferred, ownServer, until, within } from "../harness/mod.ts";
import { logged, sentence } from "./_support/logs.ts";
import { NEVER_POLL, numbers, publish, Reading } from "./_support/running.ts";

Deno.test("after crashes of the server subscriptions lose nothing, and get once what is published then", async () => {
  await using server = await ownServer();
  await using db = await connect(server.url, { maxReconnectDelay: 200 });
  const readings: Reading[] = [];
  await using stack = new AsyncDisposableStack();
  for (const n of numbers(0, 19)) {
    const options = { from: "beginning", pollInterval: NEVER_POLL } as const;
    readings.push(stack.use(new Reading(db, n % 3 === 0 ? ["c", "d"] : "c", options)));
  }
  let last = 0;
  const all = async (through: number) => {
    await until(
      () => readings.every(({ inbox }) => inbox.items.some((n) => n.payload === through)),
      {
        deadline: 60_000,
        what: `all to read ${through}`,
      },
    );
  };
  for (const _crash of numbers(1, 2)) {
    const first = last + 1;
    const begun = readings.map(({ inbox }) => inbox.items.length);
    // Each is read to a private mark, most of which no stored one follows.
    for (const _n of numbers(1, 5)) {
      await publish(server, last + 1, last + 3);
      last += 3;
      await all(last);
    }
    for (const [i, { payloads }] of readings.entries()) {
      const since = payloads.slice(begun[i]).filter((n) => Number(n) >= first);
      assert.deepEqual(since, numbers(first, last), `subscription ${i}`);
    }
    await publish(server, last + 1, last + 20);
    last += 20;
    await server.kill();
    await server.start();
  }
  await publish(server, last + 1, last + 1);
  await all(last + 1);
  const expected = new Set(numbers(1, last + 1));
  for (const { payloads } of readings) {
    assert.deepEqual(new Set(payloads.toSorted((a, b) => Number(a) - Number(b))), expected);
  }
});

Deno.test("a slow subscription that meets a crash finds the live edge again", async () => {
  await using server = await ownServer();
  await using db = await connect(server.url, { maxReconnectDelay: 200 });
  await using quick = new Reading(db, "c", { pollInterval: NEVER_POLL, from: "beginning" });
  const [gate, isBusy] = [deferred("the gate to be opened"), deferred("it to read")];
  const seen: unknown[] = [];
  const stop = new AbortController();
  const slow = (async () => {
    const options = { pollInterval: NEVER_POLL, from: "beginning", signal: stop.signal } as const;
    for await (const { payload } of subscribe(db, "c", options)) {
      seen.push(payload.n ?? payload);
      isBusy.resolve();
      await gate.wait({ deadline: 60_000 });
    }
  })();
  await publish(server, 1, 1);
  await isBusy.wait();
  // More than it is kept: it loses its place.
  for (const n of [2, 3, 4]) {
    await server.sql(
      "select hark.notify('c', jsonb_build_object('n', $1::int, 'x', repeat('x', 600000)))",
      [n],
    );
    await quick.inbox.atLeast(n);
  }
  for (const n of numbers(5, 9)) {
    await publish(server, n, n);
    await quick.inbox.atLeast(n);
  }
  await server.kill();
  const begun = Date.now();
  gate.resolve();
  const interrupted = (why: RegExp) =>
    logged.items.filter((record) =>
      record.timestamp >= begun && why.test(`${record.properties.reason}`) &&
      /^Reading was interrupted/.test(sentence(record))
    ).length;
  await until(() => interrupted(/no connection/) >= 6);
  await server.start();
  for (const n of numbers(10, 30)) {
    await publish(server, n, n);
    await until(() => seen.includes(n), { what: `the slow one to read ${n}` });
  }
  assert.deepEqual(new Set(seen), new Set(numbers(1, 30)));
  assert.deepEqual(seen.filter((n) => Number(n) >= 10), numbers(10, 30));
  assert(interrupted(/crash or a fail-over/) < 8, "it meets the crash once");
  stop.abort();
  await within(slow);
});
