/** Draining on a request, as schedulers call it. */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  notify,
  notifyMany,
  pause,
  resume,
} from "../../mod.ts";
import {
  type DrainAnswer,
  drainHandler,
  type DrainHandlerOptions,
  wakeHandler,
} from "../../src/edge/mod.ts";
import { logged } from "../faults/_support/logs.ts";
import { deferred, patient, spawnDeno, test, until, within } from "../harness/mod.ts";

const secret = "s3cret-of-the-scheduler";

const request = (method = "POST", shown: string | undefined = `Bearer ${secret}`) =>
  new Request("https://example.com/drain", {
    method,
    headers: shown === undefined ? {} : { authorization: shown },
  });

test("a request drains all consumers, and says in JSON what was done", async (context) => {
  const db = context.use(await connect(context.url));
  await notifyMany(db, [1, 2, 3].map((payload) => ({ channel: "c", payload })));
  const consumer = (id: string, handle: ConsumerOptions["handle"]) =>
    new Consumer(db, { id, channels: "c", retry: { initial: "1h" }, handle: handle! });
  const handler = drainHandler([
    consumer("billing", () => {}),
    consumer("mail", ({ payload }) => {
      if (payload === 2) throw new Error("no");
    }),
  ], { secret, limit: 10 });
  const response = await handler(request());
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("cache-control"), "no-store");
  assert.deepEqual(await response.json(), {
    handled: 5,
    more: false,
    reason: "done",
    consumers: {
      billing: { handled: 3, failed: 0, dead: 0, left: 0, more: false, reason: "done" },
      mail: { handled: 2, failed: 1, dead: 0, left: 1, more: false, reason: "done" },
    },
  });
  assert.equal((await handler(request("GET"))).status, 200);
});

test("each consumer of one request gets what is due, whichever of their drains delivers it", async (context) => {
  const db = context.use(await connect(context.url, { poolSize: 4 }));
  const names = ["a", "b", "c", "d"];
  const handler = drainHandler(
    names.map((id) => new Consumer(db, { id, channels: id, handle() {} })),
    { secret },
  );
  await handler(request());
  for (let round = 0; round < 4; round++) {
    await notifyMany(db, names.map((channel) => ({ channel, payload: round, delay: "1h" })));
    // Due now, without waiting for the clock.
    await context.sql("update hark.delayed set deliver_at = clock_timestamp() - interval '1 s'");
    const { handled, more } = await (await handler(request())).json() as DrainAnswer;
    assert.deepEqual([round, handled, more], [round, names.length, false]);
  }
});

test("a request that delivers something while it drains says that there may be more", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "slow", 1);
  const slow = new Consumer(db, {
    id: "slow",
    channels: "slow",
    async handle() {
      // The drain of "fast" is over when its notification comes due.
      const left = "select count(*)::integer as count from hark.delayed";
      await until(async () => (await context.sql(left))[0].count === 0);
    },
  });
  const fast = new Consumer(db, { id: "fast", channels: "fast", handle() {} });
  const handler = drainHandler([slow, fast], { secret });
  await fast.drain();
  await notify(db, "fast", 2, { delay: 1500 });
  const first = await (await handler(request())).json() as DrainAnswer;
  // On a slow machine it is due before the drains begin.
  assert(first.more || first.handled === 2, JSON.stringify(first));
  const { handled, more } = await (await handler(request())).json() as DrainAnswer;
  assert.deepEqual([first.handled + handled, more], [2, false]);
});

test("a request without the secret, or of another method, reaches no consumer", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const consumer = new Consumer(db, { id: "c", channels: "c", handle: () => assert.fail() });
  const next = "the-secret-that-comes-next";
  const handler = drainHandler(consumer, { secret: [secret, next] });
  for (
    const shown of [
      undefined,
      "",
      secret,
      `Basic ${secret}`,
      "Bearer ",
      `Bearer ${secret}x`,
      `Bearer ${secret.slice(1)}`,
      `Bearer ${secret.toUpperCase()}`,
    ]
  ) {
    const given = new Request("https://example.com/drain", {
      method: "POST",
      headers: shown === undefined ? {} : { authorization: shown },
    });
    const response = await handler(given);
    assert.deepEqual([response.status, response.headers.get("www-authenticate")], [401, "Bearer"]);
    assert.deepEqual(await response.json(), {
      error: {
        code: "NO_PERMISSION",
        message: "the secret is missing or wrong",
        remedy: "Send the header Authorization: Bearer SECRET.",
      },
    });
  }
  for (const method of ["PUT", "DELETE", "HEAD", "OPTIONS"]) {
    const response = await handler(request(method));
    assert.deepEqual([response.status, response.headers.get("allow")], [405, "GET, POST"]);
    assert.deepEqual(await response.json(), {
      error: {
        code: "BAD_METHOD",
        message: `a drain cannot be asked for with ${method}`,
        remedy: "Send POST or GET.",
      },
    });
  }
  const [{ count }] = await context.sql("select count(*)::integer from hark.consumers");
  assert.equal(count, 0);
  await assert.rejects(async () => {
    const { consumers } = await (await handler(request("POST", `bearer ${next}`))).json();
    throw new Error(Object.keys(consumers).join());
  }, { message: "c" });
});

test("while a request drains, another one to the same process is told that it is busy", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const begun = deferred("the handler to begin");
  const go = deferred("to go on");
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    async handle() {
      begun.resolve();
      await go.wait();
    },
  });
  const handler = drainHandler(consumer, { secret });
  const first = handler(request());
  await begun.wait();
  const since = logged.items.length;
  const second = await handler(request());
  assert.equal(second.status, 200);
  assert.deepEqual(await second.json(), {
    handled: 0,
    more: false,
    reason: "busy",
    consumers: { c: { handled: 0, failed: 0, dead: 0, left: 0, more: false, reason: "busy" } },
  });
  const told = logged.items.slice(since).filter(({ category }) => category[1] === "edge");
  assert.deepEqual(told, []);
  go.resolve();
  assert.equal((await (await within(first)).json() as DrainAnswer).handled, 1);
});

test("the status and the reason say whether to ask again, and why", async (context) => {
  const db = context.use(await connect(context.url));
  await notifyMany(db, Array.from({ length: 5 }, (_, n) => ({ channel: "c", payload: n })));
  const answers = async (options: ConsumerOptions, given: Partial<DrainHandlerOptions> = {}) => {
    const consumers = [
      new Consumer(db, { id: "c", channels: "c", handle() {}, ...options }),
      new Consumer(db, { id: "other", channels: "other", handle() {} }),
    ];
    const response = await drainHandler(consumers, { secret, ...given })(request());
    const { handled, more, reason } = await response.json() as DrainAnswer;
    return [response.status, handled, more, reason];
  };
  assert.deepEqual(await answers({}, { limit: 2 }), [202, 2, true, "limit"]);
  const hangs: ConsumerOptions = {
    handle: (_, { signal }) =>
      new Promise<void>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      }),
  };
  const deadline = patient(500);
  assert.deepEqual(await answers(hangs, { deadline }), [202, 0, true, "deadline"]);
  await pause(db, "c");
  // If there was no time left to release the partition, it is busy until the lease ends.
  const answersWhenFree = () =>
    until(async () => {
      const answer = await answers({});
      return answer.at(-1) !== "busy" && answer;
    });
  assert.deepEqual(await answersWhenFree(), [200, 0, false, "paused"]);
  await resume(db, "c");
  const signal = AbortSignal.abort();
  assert.deepEqual((await answers({}, { signal })).at(-1), "stopped");
  const stop = new AbortController();
  const runs = new Consumer(db, { ...hangs, id: "c", channels: "c", stopTimeout: 1 });
  const running = runs.run({ signal: stop.signal });
  await runs.ready;
  assert.deepEqual(await answers({}), [200, 0, false, "busy"]);
  stop.abort();
  await running;
  assert.deepEqual(await answersWhenFree(), [200, 3, false, "done"]);
  assert.deepEqual(await answers({}), [200, 0, false, "done"]);
});

test("a consumer that the program itself runs in this process is a conflict", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
  const running = consumer.run();
  await consumer.ready;
  const response = await drainHandler(consumer, { secret })(request());
  const { reason, consumers: { c } } = await response.json();
  assert.deepEqual([response.status, reason, c.error.code], [409, "failed", "CONFLICT"]);
  await consumer.stop();
  await running;
});

test("an error of one consumer is told beside what the others have done", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const gone = await connect(context.url);
  await gone.close();
  const options = { channels: "c", handle() {} };
  const handler = drainHandler([
    new Consumer(db, { ...options, id: "works" }),
    new Consumer(gone, { ...options, id: "closed" }),
  ], { secret });
  const response = await handler(request());
  assert.equal(response.status, 503);
  const { handled, reason, consumers } = await response.json();
  assert.deepEqual([handled, reason, consumers.works.reason, consumers.closed.error.code], [
    1,
    "failed",
    "done",
    "UNREACHABLE",
  ]);
});

test("a wrong option is refused when the handler is made, and a secret is never shown", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const refused = (given: any, options: any, message: RegExp) =>
    assert.throws(() => drainHandler(given, options), { code: "BAD_OPTION", message });
  const missing = /^secret is missing\. Is the variable set .* DRAIN_SECRET\?.* at least 16/;
  refused(consumer, {}, missing);
  refused(consumer, { secret: "" }, missing);
  refused(consumer, { secret: "short" }, /^secret has 5 characters\. Give text of at least 16/);
  refused(
    consumer,
    { secret: "with spaces, which no header has" },
    /^secret has characters that are not visible ASCII\./,
  );
  refused(consumer, { secret: 16 }, /^secret is a number\./);
  refused(consumer, { secret: [] }, /^secret is an empty array\./);
  refused(consumer, { secret: [secret, "s"] }, /^secret\[1\] has 1 character\./);
  const noWakeSecret =
    /^secret is missing\. Is the variable set .* HARK_WAKE_SECRET\? Give "whsec_"/;
  for (const none of [undefined, ""]) {
    assert.throws(() => wakeHandler(consumer, { secret: none as unknown as string }), {
      code: "BAD_OPTION",
      message: noWakeSecret,
    });
  }
  refused([], { secret }, /^consumers is \[\]\. Give a Consumer/);
  refused(consumer, { secret, dedline: 1 }, /Did you mean deadline\?/);
  refused(consumer, { secret, deadline: "never" }, /^deadline is "never"/);
  refused(consumer, { secret, limit: 0.5 }, /^limit is 0\.5/);
});

test("after SIGINT a program ends within 5 s, with all of it acknowledged or released", async (context) => {
  const db = context.use(await connect(context.url));
  await using child = spawnDeno(["examples/edge.ts"], {
    permissions: ["-P=example"],
    env: { DATABASE_URL: context.url, DRAIN_SECRET: secret, PORT: "0" },
  });
  const [, port] = await child.line(/^listening on port (\d+)$/);
  await notify(db, "orders", { id: 1 });
  await notify(db, "orders", { id: 2, ms: 60_000 });
  await notify(db, "orders", { id: 3 });
  const draining = fetch(`http://127.0.0.1:${port}/drain`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}` },
  });
  await child.line(/^billing 2$/);
  const begun = performance.now();
  child.kill("SIGINT");
  const { code, stderr } = await child.ended();
  const took = Math.round(performance.now() - begun);
  console.log(`from SIGINT to the end: ${took} ms, of which the handler had 3,000`);
  assert.equal(code, 0, stderr);
  const { consumers } = await (await draining).json();
  assert.deepEqual(consumers["example-edge"], {
    handled: 1,
    failed: 0,
    dead: 0,
    left: 2,
    more: true,
    reason: "stopped",
  });
  const owned = "select count(*)::integer as count from hark.partitions where owner is not null";
  await until(async () => (await context.sql(owned))[0].count === 0);
  const seen: number[] = [];
  await new Consumer(db, {
    id: "example-edge",
    channels: "orders",
    handle: ({ payload }) => void seen.push(payload.id),
  }).drain();
  assert.deepEqual(seen, [2, 3]);
});
