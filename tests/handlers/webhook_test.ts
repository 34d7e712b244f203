/** The handler webhook, against a server that refuses, hangs, redirects, or is gone. */

import assert from "node:assert/strict";
import { Webhook } from "npm:standardwebhooks@1.1.1";
import { connect, Consumer, type ConsumerOptions, notifyMany } from "../../mod.ts";
import { webhook, type WebhookOptions } from "../../src/handlers/mod.ts";
import { patient, test, type TestContext, within } from "../harness/mod.ts";
import { certificate, partner, type Received } from "./_support/partner.ts";

const secret = `whsec_${btoa("a secret of 24 bytes or more")}`;
const older = `whsec_${btoa("an older secret of 24 bytes or more")}`;

function post(options: Partial<WebhookOptions> & Pick<WebhookOptions, "url">) {
  return webhook({
    allowPrivateAddresses: true,
    ...(options.secrets === undefined ? { secret } : {}),
    ...options,
  });
}

async function publish(context: TestContext, ...payloads: unknown[]): Promise<void> {
  await notifyMany(
    context.admin,
    payloads.map((payload) => ({ channel: "c", key: "k", payload })),
  );
}

/** Drains a consumer with this handler. */
async function drained(context: TestContext, options: ConsumerOptions) {
  const db = context.use(await connect(context.url));
  const results: unknown[] = [];
  const errors: string[] = [];
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    retry: { initial: 5, maximum: 5 },
    onHandled: (_, { result }) => results.push(result),
    onError: (error) => errors.push(`${(error as Error).name}: ${(error as Error).message}`),
    ...options,
  });
  const count = await within(consumer.drain(), { what: "the drain" });
  const dead = await context.sql("select id::int, error from hark.dead order by id");
  return { count, results, errors, dead };
}

test("a webhook is signed as the receiver's library verifies it, with the new and the old secret", async (context) => {
  const server = partner(context, () => new Response("thanks"));
  await publish(context, { name: "Jürgen", big: "☃" }, 2);
  const { count, results } = await drained(context, {
    handle: post({ url: `${server.origin}/hooks?a=1`, secrets: [secret, older] }),
  });
  assert.equal(count, 2);
  assert.deepEqual(server.received.map(({ path, body }) => [path, JSON.parse(body)]), [
    ["/hooks", { name: "Jürgen", big: "☃" }],
    ["/hooks", 2],
  ]);
  for (const { headers, body } of server.received) {
    assert.equal(headers["content-type"], "application/json");
    for (const one of [secret, older]) {
      assert.deepEqual(new Webhook(one).verify(body, headers), JSON.parse(body));
    }
    assert.throws(() => new Webhook(btoa("another secret of 24 bytes")).verify(body, headers));
    assert.throws(() => new Webhook(secret).verify(`${body} `, headers));
  }
  const ids = server.received.map(({ headers }) => headers["webhook-id"]);
  assert.deepEqual(results, ids.map((id) => ({ status: 200, id })));
  assert.equal(new Set(ids).size, 2);
});

test("a receiver that fails, hangs, redirects, throttles or hangs up loses nothing, and gets all in order", async (context) => {
  const moods: ((over: AbortSignal) => Response | Promise<Response>)[] = [
    () => new Response("we are\nclosed", { status: 500 }),
    (over) => new Promise((_, reject) => over.addEventListener("abort", () => reject(over.reason))),
    () => new Response(null, { status: 302, headers: { location: "/elsewhere" } }),
    () => new Response(null, { status: 429, headers: { "retry-after": "1" } }),
    () =>
      new Response(null, {
        status: 503,
        headers: { "retry-after": new Date(Date.now() - 5000).toUTCString() },
      }),
    () => new Response("no such page", { status: 404 }),
    () => new Response(null, { status: 429, headers: { "retry-after": "soon" } }),
  ];
  let at = 0;
  const times: number[] = [];
  const accepted: Received[] = [];
  const server = partner(context, async (received, over) => {
    times.push(performance.now());
    const mood = moods[at++];
    if (mood !== undefined) return await mood(over);
    accepted.push(received);
    return new Response(null, { status: 204 });
  });
  await publish(context, 1, 2, 3);
  const timeout = patient(2000);
  const { count, errors, dead } = await drained(context, {
    concurrency: 3,
    handle: post({ url: `${server.origin}/hooks`, timeout }),
  });
  assert.equal(count, 3);
  assert.deepEqual(dead, []);
  const url = `${server.origin}/hooks`;
  assert.deepEqual(errors, [
    `WebhookError: ${url} answered 500: we are`,
    `WebhookError: ${url} did not answer in ${timeout} ms`,
    `WebhookError: ${url} answered 302, and redirects are not followed`,
    `RetryAfter: ${url} answered 429`,
    `WebhookError: ${url} answered 503`,
    `WebhookError: ${url} answered 404: no such page`,
    `WebhookError: ${url} answered 429`,
  ]);
  assert(times[4]! - times[3]! >= 990, "Retry-After: 1 is heeded");
  assert.deepEqual(accepted.map(({ body }) => body), ["1", "2", "3"]);
  assert(server.received.every(({ path }) => path === "/hooks"));
  const attempts = server.received.slice(0, moods.length + 1);
  assert.equal(new Set(attempts.map(({ headers }) => headers["webhook-id"])).size, 1);
});

test("a receiver that cannot be reached, or hangs up before it answers, is tried again", async (context) => {
  let calls = 0;
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const rude = (async () => {
    for await (const connection of listener) {
      calls++;
      await connection.read(new Uint8Array(100));
      connection.close();
    }
  })();
  await publish(context, 1);
  const url = `http://127.0.0.1:${listener.addr.port}/`;
  const { errors, dead } = await drained(context, {
    maxAttempts: 2,
    handle: post({ url, timeout: patient(2000) }),
  });
  listener.close();
  await rude;
  assert.equal(calls, 2);
  assert.equal(errors.length, 2);
  for (const error of errors) assert.match(error, /^WebhookError: .* could not be reached: /);
  assert.equal(dead.length, 1);
  await publish(context, 2);
  const closed = await drained(context, { maxAttempts: 2, handle: post({ url }) });
  assert.equal(closed.errors.length, 2);
  assert.match(closed.errors[0]!, /ECONNREFUSED/);
});

test("an endpoint that is gone is given up with the reason, and not asked for each notification; others go on", async (context) => {
  const server = partner(
    context,
    ({ path }) => new Response(null, { status: path === "/gone" ? 410 : 200 }),
  );
  await publish(context, "gone", "here", "gone", "here");
  const { count, dead } = await drained(context, {
    handle: post({ url: ({ payload }) => `${server.origin}/${payload}` }),
  });
  assert.equal(count, 2);
  assert.deepEqual(server.received.map(({ path }) => path), ["/gone", "/here", "/here"]);
  assert.deepEqual(dead, [
    { id: 1, error: `${server.origin}/gone answered 410: it is gone` },
    { id: 3, error: `${server.origin}/gone is gone: it answered 410 in the last minute` },
  ]);
});

test("a name that leads to this machine is refused unless private addresses are allowed", async (context) => {
  const server = partner(context, () => new Response());
  await publish(context, 1);
  const { errors, dead } = await drained(context, {
    maxAttempts: 1,
    handle: post({ url: server.origin, allowPrivateAddresses: false }),
  });
  assert.match(errors[0]!, /^WebhookError: .*localhost is (127\.0\.0\.1|::1), which is no public/);
  assert.equal(dead.length, 1);
  assert.deepEqual(server.received, []);
});

for (const status of [200, 500]) {
  test(`an answer ${status} whose body never ends takes neither memory nor time`, async (context) => {
    const chunk = new Uint8Array(65_536).fill(120);
    let sent = 0;
    const server = partner(context, () => {
      const body = new ReadableStream({
        pull(controller) {
          if (sent++ === 0) controller.enqueue(chunk.subarray(0, 100));
          controller.enqueue(chunk);
        },
      });
      return new Response(body, { status });
    });
    await publish(context, 1);
    const { count, errors } = await drained(context, {
      maxAttempts: 1,
      handle: post({ url: server.origin, timeout: patient(5000) }),
    });
    assert.equal(count, status === 200 ? 1 : 0);
    assert(sent < 200, `${sent} parts were sent`);
    if (status === 500) assert.match(errors[0]!, /answered 500: x{200}$/);
  });
}

test("a webhook by https trusts the certificates given, and no other", async (context) => {
  const server = partner(context, () => new Response(), certificate);
  await publish(context, 1);
  const options = { maxAttempts: 1 };
  const trusted = post({ url: server.origin, ca: certificate.cert });
  assert.equal((await drained(context, { ...options, handle: trusted })).count, 1);
  await publish(context, 2);
  const { errors } = await drained(context, { ...options, handle: post({ url: server.origin }) });
  assert.match(errors[0]!, /could not be reached: .*certificate/);
  assert.equal(server.received.length, 1);
});

test("a body of its own and headers of its own are sent and signed", async (context) => {
  const server = partner(context, () => new Response());
  await publish(context, { id: 42 });
  await drained(context, {
    handle: post({
      url: server.origin,
      headers: { authorization: "Bearer token" },
      body: ({ channel, payload }) => ({ type: channel, data: payload }),
    }),
  });
  const [{ headers, body }] = server.received as [Received];
  assert.equal(headers.authorization, "Bearer token");
  assert.deepEqual(new Webhook(secret).verify(body, headers), { type: "c", data: { id: 42 } });
});

test("a body and a URL that are looked up first are sent as they come", async (context) => {
  const server = partner(context, () => new Response());
  await publish(context, { id: 42 });
  const { count } = await drained(context, {
    handle: post({
      url: async ({ channel }) => await Promise.resolve(`${server.origin}/${channel}`),
      body: async ({ payload }) => ({ name: "Ada", data: await Promise.resolve(payload) }),
    }),
  });
  assert.equal(count, 1);
  const received = server.received.map(({ path, body }) => [path, JSON.parse(body)]);
  assert.deepEqual(received, [["/c", { name: "Ada", data: { id: 42 } }]]);
});

test("an exact number beside an object of a class is sent with all its digits", async (context) => {
  const server = partner(context, () => new Response());
  await publish(context, 1);
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  const body = () => ({ exact: rawJSON("9007199254740993"), at: new URL("http://a/") });
  const { count } = await drained(context, { handle: post({ url: server.origin, body }) });
  assert.equal(count, 1);
  assert.equal(server.received[0]!.body, '{"exact":9007199254740993,"at":"http://a/"}');
});

test("a body that JSON would change, or that never comes, is not posted, and the error says why", async (context) => {
  const server = partner(context, () => new Response());
  const bodies = [
    { items: new Map([["a", 1]]) },
    { price: NaN },
    { of: 42n },
    undefined,
    new Promise(() => {}),
    { text: "half of \ud83d" },
  ];
  await publish(context, 1);
  const timeout = patient(1000);
  const { count, errors } = await drained(context, {
    handle: post({ url: server.origin, timeout, body: () => bodies.shift() }),
  });
  assert.equal(count, 1);
  const begins = [
    "HarkError: body at items is a Map of 1, ",
    "HarkError: body at price is NaN, which is not a JSON number",
    "HarkError: body at of is 42n, which is not JSON",
    "HarkError: body is undefined",
    `HarkError: the option body gave nothing in ${timeout} ms`,
  ];
  assert.equal(errors.length, begins.length, errors.join("\n"));
  for (const [i, error] of errors.entries()) assert(error.startsWith(begins[i]!), error);
  assert.deepEqual(server.received.map(({ body }) => JSON.parse(body)), [
    { text: "half of \ud83d" },
  ]);
});

test("a consumer that stops does not wait for a receiver that hangs longer than stopTimeout", async (context) => {
  const asked = Promise.withResolvers<void>();
  const server = partner(context, async (_, over) => {
    asked.resolve();
    return await new Promise((_, reject) =>
      over.addEventListener("abort", () => reject(over.reason))
    );
  });
  await publish(context, 1);
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    stopTimeout: 50,
    handle: post({ url: server.origin }),
  });
  const running = consumer.run();
  await asked.promise;
  await within(consumer.stop(), { deadline: 5000, what: "the stop" });
  await running;
  const later = await drained(context, { handle: () => "handled" });
  assert.deepEqual(later.results, ["handled"], "it is handled again");
});

test("a Retry-After that is no time to come leaves the wait to retry", async (context) => {
  const headers = ["0", "1.5", "-1", "2001-01-01", new Date(Date.now() - 5000).toUTCString(), ""];
  let at = 0;
  const server = partner(
    context,
    () => new Response(null, { status: 429, headers: { "retry-after": headers[at++]! } }),
  );
  await publish(context, 1);
  let asked = 0;
  const { dead } = await drained(context, {
    maxAttempts: headers.length + 1,
    retry: () => ++asked < headers.length ? 1 : "dead",
    handle: post({ url: server.origin }),
  });
  assert.equal(dead.length, 1);
  assert.equal(asked, headers.length, "retry decides after each answer");
});
