/** Waking over HTTP, by signed requests. */

import assert from "node:assert/strict";
import { Webhook } from "npm:standardwebhooks@1.1.1";
import { connect, Consumer, type Database, notify } from "../../mod.ts";
import { type DrainResult, type WakeAnswer, wakeHandler, wakeUp } from "../../src/edge/mod.ts";
import { Running } from "../faults/_support/running.ts";
import { partner } from "../handlers/_support/partner.ts";
import { deferred, patient, spawnDeno, test, type TestContext, until } from "../harness/mod.ts";

const secret = `whsec_${btoa("a secret of at least 24 bytes")}`;
const other = `whsec_${btoa("another secret of enough bytes")}`;
const at = "https://example.com/wake";

/** A request as a sender of Standard Webhooks signs it. */
function signed(
  { id = "msg_1", time = new Date(), body = "{}", by = secret } = {},
  changed: Record<string, string> = {},
): Request {
  const headers = {
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(time.getTime() / 1000)),
    "webhook-signature": new Webhook(by).sign(id, time, body),
    ...changed,
  };
  return new Request(at, { method: "POST", body, headers });
}

async function asleep({ sql }: TestContext): Promise<void> {
  await until(async () => (await sql("select from hark.sleeping()")).length === 1, {
    what: "the consumer to sleep",
  });
}

test("a request wakes a consumer that hears no NOTIFY, within a second", async (context) => {
  const db = context.use(await connect(context.url, { listen: false }));
  const running = context.use(new Running(db, { idle: "sleep", idleAfter: 100 }));
  const handler = wakeHandler(running.consumer, { secret });
  const { origin } = partner(
    context,
    (got) => handler(new Request(at, { method: "POST", headers: got.headers, body: got.body })),
  );
  const took: number[] = [];
  for (let n = 1; n <= 3; n++) {
    await asleep(context);
    await context.sql("select hark.notify('c', $1::text::jsonb)", [n]);
    await wakeUp(origin, { secret });
    const woken = performance.now();
    await running.atLeast(n);
    took.push(performance.now() - woken);
  }
  // The server may stand still once, or twice.
  assert(Math.min(...took) < patient(1000), `${took.map(Math.round)} ms`);
});

test("a consumer that does not run is drained before the answer", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const handled: unknown[] = [];
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    handle: ({ payload }) => void handled.push(payload),
  });
  const handler = wakeHandler(consumer, { secret });
  const response = await handler(signed());
  assert.deepEqual([response.status, response.headers.get("cache-control")], [200, "no-store"]);
  const { repeated, consumers } = await response.json() as WakeAnswer;
  assert.equal(repeated, false);
  assert.deepEqual(consumers["c"], {
    handled: 1,
    failed: 0,
    dead: 0,
    left: 0,
    more: false,
    reason: "done",
  });
  // The same request once more does nothing.
  await notify(db, "c", 2);
  assert.deepEqual(await (await handler(signed())).json(), { repeated: true, consumers: {} });
  assert.deepEqual(handled, [1]);
  await handler(signed({ id: "msg_2" }));
  assert.deepEqual(handled, [1, 2]);
});

test("a request that is not signed, forged, old or too long wakes no consumer", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const consumer = new Consumer(db, { id: "c", channels: "c", handle: () => assert.fail() });
  const handler = wakeHandler(consumer, { secret: [secret, other] });
  const refused = async (request: Request, status: number, message: RegExp) => {
    const response = await handler(request);
    const { error } = await response.json();
    assert.deepEqual([response.status, message.test(error.message)], [status, true], error.message);
    assert(!JSON.stringify(error).includes("whsec_"));
  };
  const minutes = (n: number) => new Date(Date.now() + n * 60_000);
  await refused(new Request(at, { method: "POST", body: "{}" }), 401, /not signed/);
  await refused(signed({}, { "webhook-id": "" }), 401, /not signed/);
  await refused(signed({}, { "webhook-timestamp": "soon" }), 401, /not signed/);
  await refused(signed({}, { "webhook-id": "msg_2" }), 401, /signature is wrong/);
  await refused(signed({}, { "webhook-timestamp": "1" }), 401, /signature is wrong/);
  await refused(signed({}, { "webhook-signature": "v1,AAAA" }), 401, /signature is wrong/);
  await refused(signed({ by: `whsec_${btoa("x".repeat(32))}` }), 401, /signature is wrong/);
  await refused(signed({ time: minutes(-6) }), 401, /timestamp is 3\d\d s old/);
  await refused(signed({ time: minutes(6) }), 401, /timestamp is 3\d\d s in the future/);
  await refused(signed({ body: "x".repeat(5000) }), 413, /more than 4096 bytes/);
  await refused(new Request(at), 405, /with GET/);
  const changed = signed({ body: "{}" });
  await refused(
    new Request(at, { method: "POST", headers: changed.headers, body: "{ }" }),
    401,
    /signature is wrong/,
  );
});

test("either of two secrets counts while one replaces the other", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
  const handler = wakeHandler(consumer, { secret: [secret, other] });
  assert.equal((await handler(signed({ id: "a", by: secret }))).status, 200);
  assert.equal((await handler(signed({ id: "b", by: other }))).status, 200);
});

/** Lets what has come before reach the handlers, by way of the server and back. */
async function settled({ url, use }: TestContext): Promise<void> {
  const consumer = new Consumer(use(await connect(url)), {
    id: "other",
    channels: "o",
    handle() {},
  });
  await wakeHandler(consumer, { secret })(signed());
}

/** A consumer whose first handler waits until it is let go. */
function held(db: Database, handled: unknown[] = []) {
  const begun = deferred("the handler to begin");
  const go = deferred("the handler to go on");
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    partitions: 1,
    async handle({ payload }) {
      handled.push(payload);
      begun.resolve();
      await go.wait();
    },
  });
  return { consumer, begun, go };
}

test("what is published while an earlier request drains is drained for the next ones, once", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const handled: unknown[] = [];
  const { consumer, begun, go } = held(db, handled);
  const handler = wakeHandler(consumer, { secret });
  const first = handler(signed({ id: "first" }));
  await begun.wait();
  await notify(db, "c", 2);
  const more = ["second", "third"].map((id) => handler(signed({ id })));
  await settled(context);
  go.resolve();
  assert.equal((await first).status, 200);
  for (const one of more) {
    const response = await one;
    assert.equal(response.status, 200);
    const { repeated, consumers } = await response.json() as WakeAnswer;
    assert.deepEqual([repeated, (consumers["c"] as DrainResult).reason], [false, "done"]);
  }
  assert.deepEqual(handled, [1, 2]);
});

test("a request whose time is over while an earlier one drains is told to come again", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const { consumer, begun, go } = held(db);
  const first = wakeHandler(consumer, { secret })(signed());
  await begun.wait();
  const response = await wakeHandler(consumer, { secret, deadline: 20 })(signed());
  assert.equal(response.status, 503);
  const { consumers } = await response.json() as WakeAnswer;
  const { reason, more } = consumers["c"] as DrainResult;
  assert.deepEqual([reason, more], ["deadline", true]);
  go.resolve();
  assert.equal((await first).status, 200);
});

test("a request that leaves something is answered with 503, and may be sent again with the same id", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  await notify(db, "c", 2);
  const consumer = new Consumer(db, { id: "c", channels: "c", partitions: 1, handle() {} });
  const handler = wakeHandler(consumer, { secret, limit: 1 });
  const response = await handler(signed());
  assert.deepEqual([response.status, response.headers.get("retry-after")], [503, "1"]);
  const { consumers } = await response.json() as WakeAnswer;
  const { reason, more } = consumers["c"] as DrainResult;
  assert.deepEqual([reason, more], ["limit", true]);
  await handler(signed());
  const last = await handler(signed());
  assert.equal(last.status, 200, await last.text());
});

test("a request that finds other workers at all partitions is answered with 503", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  const { consumer, begun, go } = held(db);
  const draining = consumer.drain();
  await begun.wait();
  await notify(db, "c", 2);
  const elsewhere: unknown[] = [];
  const other = held(context.use(await connect(context.url)), elsewhere);
  other.go.resolve();
  const handler = wakeHandler(other.consumer, { secret });
  const busy = await handler(signed());
  assert.deepEqual([busy.status, busy.headers.get("retry-after")], [503, "1"]);
  const { consumers } = await busy.json() as WakeAnswer;
  assert.equal((consumers["c"] as DrainResult).reason, "busy");
  go.resolve();
  await draining;
  assert.equal((await handler(signed())).status, 200);
  assert.deepEqual(elsewhere, [2]);
});

test("a repeat that comes before the first request has ended is answered as that one", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  await notify(db, "c", 2);
  const { consumer, begun, go } = held(db);
  const handler = wakeHandler(consumer, { secret, limit: 1 });
  const first = handler(signed());
  await begun.wait();
  const second = handler(signed());
  await settled(context);
  go.resolve();
  assert.equal((await first).status, 503);
  const repeat = await second;
  const { repeated, consumers } = await repeat.json() as WakeAnswer;
  assert.deepEqual([repeat.status, repeated], [503, true]);
  assert.equal((consumers["c"] as DrainResult).reason, "limit");
});

test("a run that is stopping is not woken, and the request is to be sent again", async (context) => {
  const db = context.use(await connect(context.url));
  const { consumer, begun, go } = held(db);
  const running = consumer.run();
  await consumer.ready;
  assert.equal(consumer.wake(), true);
  await notify(db, "c", 1);
  await begun.wait();
  const stopping = consumer.stop();
  assert.equal(consumer.wake(), false);
  const handler = wakeHandler(consumer, { secret });
  assert.equal((await handler(signed())).status, 409);
  go.resolve();
  await Promise.all([stopping, running]);
  assert.equal((await handler(signed())).status, 200);
});

test("wakeUp sends its request again as long as the answer is 503 and says when", async (context) => {
  const ids: unknown[] = [];
  const { origin } = partner(context, ({ headers }) => {
    ids.push(new Headers(headers).get("webhook-id"));
    const again = { status: 503, headers: { "retry-after": "0" } };
    return new Response(null, ids.length < 3 ? again : { status: 200 });
  });
  await wakeUp(origin, { secret });
  assert.deepEqual([ids.length, new Set(ids).size], [3, 1]);
});

test("wakeUp does not press a server that is to be asked again at once", async (context) => {
  let requests = 0;
  const { origin } = partner(context, () => {
    requests++;
    return new Response(null, { status: 503, headers: { "retry-after": "0" } });
  });
  await assert.rejects(wakeUp(origin, { secret, timeout: 500 }));
  assert(requests <= 10, `${requests} requests in half a second`);
});

test("wakeUp says why it failed, and shows no secret", async (context) => {
  const silent = deferred("nothing");
  const answers: Record<string, () => Response | Promise<Response>> = {
    "/401": () => new Response("no", { status: 401 }),
    "/302": () => Response.redirect("https://example.com/other"),
    "/500": () => new Response("broken", { status: 500 }),
    "/silent": async () => {
      await silent.wait({ deadline: 60_000 });
      return new Response();
    },
  };
  const { origin } = partner(context, ({ path }) => answers[path]!());
  const refused = async (url: string, code: string, message: RegExp, options = {}) => {
    await assert.rejects(wakeUp(url, { secret, ...options }), (error: Error & { code: string }) => {
      assert.equal(error.code, code, error.message);
      assert.match(error.message, message);
      assert(!error.message.includes(secret) && !error.message.includes("token"));
      return true;
    });
  };
  await refused(`${origin}/401?token=1`, "DESTINATION", /\/401 answered 401\. Both sides need/);
  await refused(`${origin}/302`, "DESTINATION", /answered 302\. Redirects are not followed/);
  await refused(`${origin}/500`, "DESTINATION", /answered 500\. What was published stays/);
  await refused(`${origin}/silent`, "TIMEOUT", /did not answer in 50 ms/, { timeout: 50 });
  silent.resolve();
  await refused("http://127.0.0.1:1/", "DESTINATION", /could not be reached/);
  await refused("wake", "BAD_OPTION", /^url is "wake"\. Give the URL/);
  await refused("ftp://a.example", "BAD_OPTION", /Give a URL of https/);
  await refused("https://a:token@b.example", "BAD_OPTION", /user name or a password/);
  await refused(origin, "BAD_OPTION", /^secret does not begin with whsec_/, { secret: "token" });
  const missing = /^secret is missing\. Is the variable set .* HARK_WAKE_SECRET\? Give "whsec_"/;
  for (const none of [undefined, null, ""]) {
    await refused(origin, "BAD_OPTION", missing, { secret: none });
  }
  await refused(origin, "BAD_OPTION", /^secret\[1\] is missing\./, { secret: [secret, ""] });
  await refused(origin, "BAD_OPTION", /^secret is an array of 0/, { secret: [] });
  await refused(origin, "BAD_OPTION", /has no option "tiemout"/, { tiemout: 1 });
});

test("wrong options of a wakeHandler are refused at once", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "c", channels: "c", handle() {} });
  const refused = (...given: unknown[]) => {
    // deno-lint-ignore no-explicit-any -- wrong on purpose
    return assert.throws(() => (wakeHandler as any)(...given), { code: "BAD_OPTION" });
  };
  refused([], { secret });
  refused({}, { secret });
  refused(consumer, {});
  refused(consumer, { secret: "short" });
  refused(consumer, { secret, deadline: "soon" });
});

test("hark wake sends a request with the secret of HARK_WAKE_SECRET", async (context) => {
  const db = context.use(await connect(context.url, { listen: false }));
  const running = context.use(new Running(db, { idle: "sleep", idleAfter: 100 }));
  const handler = wakeHandler(running.consumer, { secret });
  const { origin } = partner(
    context,
    (got) => handler(new Request(at, { method: "POST", headers: got.headers, body: got.body })),
  );
  const wake = async (env: Record<string, string>) => {
    await using child = spawnDeno(["cli.ts", "wake", "--to", origin], {
      permissions: ["-P=hark"],
      env,
    });
    return await child.ended();
  };
  await asleep(context);
  await context.sql("select hark.notify('c', '1')");
  const { code, stdout } = await wake({ HARK_WAKE_SECRET: secret });
  assert.deepEqual([code, stdout], [0, `woken: ${origin}\n`]);
  await running.atLeast(1);
  const wrong = await wake({ HARK_WAKE_SECRET: other });
  assert.deepEqual([wrong.code, /answered 401/.test(wrong.stderr)], [1, true], wrong.stderr);
  const none = await wake({ HARK_WAKE_SECRET: "" });
  assert.deepEqual([none.code, /is not set/.test(none.stderr)], [2, true], none.stderr);
});
