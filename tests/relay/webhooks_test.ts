/** A relay to the servers of many parties, some of which hang, fail, or are gone. */

import assert from "node:assert/strict";
import { Webhook } from "npm:standardwebhooks@1.1.1";
import {
  connect,
  Consumer,
  deadLetters,
  doctor,
  type Notification,
  notifyMany,
  retry,
} from "../../mod.ts";
import {
  redriveEndpoint,
  relay,
  relayEndpoints,
  type RelayOptions,
  webhooks,
  type WebhooksOptions,
} from "../../src/relay/mod.ts";
import { Postponed } from "../../src/consume/retry.ts";
import { Condition } from "../../src/relay/webhooks/condition.ts";
import { ran, refused } from "../cli/_support/hark.ts";
import { partner } from "../handlers/_support/partner.ts";
import { patient, test, type TestContext, until } from "../harness/mod.ts";

const secretOf = (name: string) => `whsec_${btoa(`a secret of 24 bytes or more of ${name}`)}`;

/** A relay whose endpoints are named by the header `to`, at a server of the test's own. */
async function setUp(
  context: TestContext,
  answer: Parameters<typeof partner>[1],
  more: Partial<WebhooksOptions> = {},
  options: Partial<RelayOptions> = {},
) {
  const db = context.use(await connect(context.url));
  const server = partner(context, answer);
  const make = () =>
    relay(db, {
      id: "out",
      channels: "c",
      retry: { initial: 5, maximum: 20 },
      ...options,
      to: webhooks({
        endpoint({ headers: { to } }) {
          if (typeof to !== "string") return undefined;
          return { name: to, url: `${server.origin}/${to}`, secret: secretOf(to) };
        },
        allowPrivateAddresses: true,
        ...more,
      }),
    });
  const send = (to: string, ...payloads: number[]) =>
    notifyMany(db, payloads.map((payload) => ({ channel: "c", payload, headers: { to } })));
  const received = (to: string) =>
    server.received.filter(({ path }) => path === `/${to}`).map(({ body }) => JSON.parse(body));
  return { db, server, make, send, received };
}

test("each notification is posted to its endpoint, signed with that one's secret", async (context) => {
  const { db, server, make, send } = await setUp(context, () => new Response());
  await send("a", 1);
  await send("b", 2);
  await notifyMany(db, [{ channel: "c", payload: "of no endpoint" }]);
  assert.equal(await make().drain(), 3);
  assert.equal(server.received.length, 2);
  for (const { path, headers, body } of server.received) {
    const verified = new Webhook(secretOf(path.slice(1))).verify(body, headers);
    assert.deepEqual([path, verified], path === "/a" ? ["/a", 1] : ["/b", 2]);
  }
});

test("a dry run shows the endpoint that a function looks up, or why it gives none", async (context) => {
  const { db, make, server } = await setUp(context, () => new Response(), {
    endpointTimeout: 200,
    async endpoint({ payload }) {
      if (payload === "late") await new Promise(() => {});
      await Promise.resolve();
      if (payload === "fails") throw new Error("the lookup failed");
      if (payload === "none") return undefined;
      const url = payload === "ftp" ? "ftp://acme.example" : "https://acme.example/hooks";
      return { name: "acme", url, secret: payload === "short" ? "whsec_abc" : secretOf("acme") };
    },
  });
  const payloads = ["good", "none", "fails", "ftp", "short", "late"];
  await notifyMany(db, payloads.map((payload) => ({ channel: "c", payload })));
  const shown = await Array.fromAsync(make().preview(), ({ to, problem }) => to ?? problem!);
  const of = (id: number) => `notification ${id} of channel "c"`;
  assert.deepEqual(shown.slice(0, 3), [
    'endpoint "acme" at https://acme.example',
    `${of(2)} has no endpoint`,
    "the lookup failed",
  ]);
  assert.match(shown[3]!, /^url is "ftp:"/);
  assert.match(shown[4]!, /^secret /);
  assert.match(shown[5]!, /^the option endpoint gave no endpoint of notification 6 .* in 200 ms\./);
  assert.deepEqual(server.received, []);
});

test("endpoints that hang and fail hold up no other", async (context) => {
  const { make, send, received } = await setUp(
    context,
    ({ path }, over) => {
      if (path.startsWith("/fail")) return new Response(null, { status: 500 });
      if (!path.startsWith("/hang")) return new Response();
      return new Promise((_, reject) => over.addEventListener("abort", () => reject(over.reason)));
    },
    // Longer than all of the good ones take.
    { perEndpoint: 2, timeout: patient(15_000) },
    { inFlight: 8, stopTimeout: 0 },
  );
  const all = Array.from({ length: 30 }, (_, n) => n);
  for (const n of all) {
    for (const to of ["hang1", "fail1", "good1", "hang2", "fail2", "good2"]) await send(to, n);
  }
  const out = make();
  const running = out.run();
  await until(() => received("good1").length + received("good2").length === 2 * all.length, {
    what: "all of the good endpoints",
  });
  assert(received("hang1").length <= 2, "no more requests than perEndpoint");
  assert(received("fail1").length < all.length, "it is left alone after a failure");
  const asked = new Set(["good1", "good2"].flatMap((to) => received(to)));
  assert.deepEqual([...asked].sort((a, b) => a - b), all);
  await out.stop();
  await running;
});

test("a function endpoint that never returns holds up its key alone, and not for ever", async (context) => {
  let never = true;
  const calls: string[] = [];
  const { db, make, send, received } = await setUp(context, () => new Response(), {
    endpointTimeout: 200,
    async endpoint({ headers: { to } }) {
      calls.push(String(to));
      if (to === "slow" && never) await new Promise(() => {});
      return undefined;
    },
  }, { inFlight: 2, maxAttempts: 2, partitions: 1 });
  await send("slow", 1, 2);
  await send("good", 3, 4, 5);
  assert.equal(await make().drain(), 3);
  assert.deepEqual(calls.filter((to) => to === "good").length, 3);
  assert.equal(calls.filter((to) => to === "slow").length, 4);
  assert.deepEqual(received("slow"), []);
  const dead = await deadLetters(db, { consumer: "out" });
  assert.equal(dead.length, 2);
  for (const { error } of dead) {
    assert.match(
      error ?? "",
      /^the option endpoint gave no endpoint of notification \d of channel "c" in 200 ms\. Keep in memory/,
    );
  }
  never = false;
  assert.equal(await retry(db, "out", { all: true }), 2);
  assert.equal(await make().drain(), 2);
});

test("an endpoint that is gone is disabled until it is redriven, and then gets what it missed", async (context) => {
  let isGone = true;
  const { db, make, send, received } = await setUp(
    context,
    ({ path }) => new Response(null, { status: isGone && path === "/gone" ? 410 : 200 }),
  );
  await send("gone", 1, 2, 3);
  await send("there", 1, 2, 3);
  await make().drain();
  const [status] = await relayEndpoints(db, "out");
  assert.deepEqual([status?.endpoint, status?.disabled, status?.status], ["gone", true, 410]);
  const { stdout } = await ran(["relay", "out", "--endpoints"], { url: context.url });
  assert.match(stdout, /^gone is disabled: .* answered 410: it is gone\n\n.*--redrive gone$/m);
  const told = await ran(["status"], { url: context.url });
  assert.match(
    told.stdout,
    /^relay +"out" publishes to webhooks; 1 endpoint disabled: hark relay out --endpoints$/m,
  );
  const found = (await doctor(db)).filter(({ code }) => code === "endpoint");
  assert.deepEqual(found.map(({ problem }) => problem.replace(/: http.*/, "")), [
    'the relay "out" has disabled the endpoint "gone"',
  ]);
  assert.match(found[0]!.remedy, /hark relay out --redrive gone/);
  // A relay that starts later knows it.
  const asked = received("gone").length;
  await send("gone", 4);
  const out = make();
  const running = out.run();
  const dead = async () => (await context.sql("select error from hark.dead")).length;
  await until(async () => await dead() === 4);
  assert.equal(received("gone").length, asked, "it is not asked while it is disabled");
  isGone = false;
  const redriven = await ran(["relay", "out", "--redrive", "gone"], { url: context.url });
  assert.match(redriven.stdout, /^"gone" is asked again; 4 notifications to be sent$/m);
  await until(async () => await dead() === 0 && received("gone").length === asked + 4);
  assert.deepEqual(received("gone").slice(asked).sort(), [1, 2, 3, 4]);
  assert.deepEqual(received("there").sort(), [1, 2, 3]);
  await out.stop();
  await running;
  assert.deepEqual(await relayEndpoints(db, "out"), []);
  assert.deepEqual(await redriveEndpoint(db, "out", "gone"), { enabled: false, retried: 0 });
});

test("a throttled endpoint is left alone, and what waits for it spends no attempts", async (context) => {
  const { db, make, send, received } = await setUp(
    context,
    () => new Response(null, { status: 429, headers: { "retry-after": "3600" } }),
    {},
    { maxAttempts: 2 },
  );
  await send("slow", 0);
  const out = make();
  const running = out.run();
  const seen = await until(async () => (await relayEndpoints(db, "out"))[0]);
  assert.deepEqual([seen?.status, seen?.disabled, seen?.failures], [429, false, 1]);
  await send("slow", 1, 2, 3, 4);
  const waiting = () => context.sql("select attempts from hark.waiting where id > 1");
  await until(async () => (await waiting()).length === 4);
  assert.deepEqual(new Set((await waiting()).map(({ attempts }) => attempts)), new Set([0]));
  assert.deepEqual(received("slow"), [0], "it is not asked again before its time");
  await out.stop();
  await running;
});

test("a throttled endpoint is asked again when its time has come, not before", async (context) => {
  const asked: number[] = [];
  const { db, make, send } = await setUp(
    context,
    () =>
      asked.push(performance.now()) === 1
        ? new Response(null, { status: 429, headers: { "retry-after": "1" } })
        : new Response(),
    {},
    { maxAttempts: 2 },
  );
  await send("slow", 0);
  const out = make();
  const running = out.run();
  await until(() => asked.length === 2);
  assert(asked[1]! - asked[0]! >= 990, `${asked[1]! - asked[0]!} ms`);
  await until(async () => (await relayEndpoints(db, "out")).length === 0);
  assert.equal((await context.sql("select from hark.dead")).length, 0);
  await out.stop();
  await running;
});

test("an endpoint that only fails for too long is disabled", async (context) => {
  const { db, make, send } = await setUp(
    context,
    () => new Response("down", { status: 503 }),
    { disableAfter: 1 },
  );
  await send("down", 1);
  await make().drain();
  const [status] = await relayEndpoints(db, "out");
  assert.deepEqual([status?.disabled, status?.status], [true, 503]);
  assert.match((await context.sql("select error from hark.dead"))[0].error, /"down" is disabled/);
});

test("an endpoint that is mended within a minute of its 410 gets what it missed", async (context) => {
  let isGone = true;
  const { db, make, send, received } = await setUp(
    context,
    () => new Response(null, { status: isGone ? 410 : 200 }),
  );
  const out = make();
  const running = out.run();
  await send("gone", 1, 2, 3);
  await until(async () => (await context.sql("select from hark.dead")).length === 3);
  await until(async () => (await relayEndpoints(db, "out"))[0]?.disabled);
  const asked = received("gone").length;
  isGone = false;
  assert.deepEqual(await redriveEndpoint(db, "out", "gone"), { enabled: true, retried: 3 });
  await until(() => received("gone").length === asked + 3);
  assert.deepEqual(received("gone").slice(asked).sort(), [1, 2, 3]);
  await out.stop();
  await running;
  assert.equal((await context.sql("select from hark.dead")).length, 0);
});

test("a throttled endpoint that is redriven is asked at once", async (context) => {
  let isBusy = true;
  const { db, make, send, received } = await setUp(
    context,
    () => new Response(null, isBusy ? { status: 429, headers: { "retry-after": "3600" } } : {}),
  );
  const out = make();
  const running = out.run();
  await send("slow", 1);
  await until(async () => (await relayEndpoints(db, "out")).length === 1);
  await send("slow", 2);
  const waiting = () => context.sql("select from hark.waiting where last_error <> ''");
  await until(async () => (await waiting()).length === 2);
  assert.deepEqual(received("slow"), [1]);
  isBusy = false;
  assert.deepEqual(await redriveEndpoint(db, "out", "slow"), { enabled: true, retried: 2 });
  await until(() => received("slow").length === 3);
  assert.deepEqual(received("slow").slice(1).sort(), [1, 2]);
  await out.stop();
  await running;
});

test("a relay or an endpoint that is unknown is said, with those that there are", async (context) => {
  const { url } = context;
  await refused(["relay", "out", "--endpoints"], 2, /there is no consumer "out"\. No consumer is/, {
    url,
  });
  await refused(["relay", "out", "--redrive", "a"], 2, /there is no consumer "out"/, { url });
  const { make, send } = await setUp(context, () => new Response(null, { status: 410 }));
  await make().drain();
  const none =
    /^Nothing is left to send again: "out" knows no endpoint "acem" .* missed anything\. /;
  const redrive = (name: string) => ["relay", "out", "--redrive", name];
  const nothing = await ran(redrive("acem"), { url });
  assert.match(nothing.stdout, new RegExp(`${none.source}No endpoint of the relay has;`));
  await send('ac"me', 1);
  await send("bit", 2);
  await make().drain();
  await context.sql("delete from hark.endpoints where endpoint = 'bit'");
  const others = await ran(redrive("acem"), { url });
  assert.match(others.stdout, new RegExp(`${none.source}Endpoints that have: "ac.*me", "bit"\\.`));
  await refused(["relay", "uot", "--endpoints"], 2, /no consumer "uot"\. Registered are: "out"/, {
    url,
  });
  assert.match(
    (await ran(redrive("bit"), { url })).stdout,
    /^"bit" did not fail; 1 notification to be/,
  );
});

test("an endpoint that was redriven can be redriven again, also in JSON", async (context) => {
  const { url } = context;
  let status = 410;
  const { make, send } = await setUp(context, () => new Response(null, { status }));
  await send("acme", 1);
  await make().drain();
  const redrive = ["relay", "out", "--redrive", "acme"];
  status = 204;
  assert.match((await ran(redrive, { url })).stdout, /^"acme" is asked again; 1 notification/);
  await make().drain();
  const again = await ran(redrive, { url });
  assert.deepEqual([again.code, again.stderr], [0, ""]);
  assert.match(again.stdout, /^Nothing is left to send again: /);
  const { code, stdout } = await ran([...redrive, "--json"], { url });
  assert.deepEqual([code, JSON.parse(stdout)], [0, {
    relay: "out",
    endpoint: "acme",
    enabled: false,
    retried: 0,
  }]);
});

test("messages wait for an endpoint at most 2 s longer than it asked", () => {
  const limits = { perEndpoint: 1, timeout: 15_000, disableAfter: 86_400_000 };
  const condition = new Condition("slow", limits, () => 1);
  condition.failed(0, 0, { status: 429, reason: "busy", wait: 3_600_000 });
  assert.throws(() => condition.begin(0), (error) => {
    assert(error instanceof Postponed);
    assert.equal(error.wait, 3_602_000);
    return true;
  });
});

test("an endpoint that only fails is disabled in time, also if it asks for a day between requests", () => {
  const day = 86_400_000;
  const limits = { perEndpoint: 1, timeout: 15_000, disableAfter: 5 * day };
  for (const wait of [undefined, day]) {
    const condition = new Condition("down", limits);
    let now = 0;
    for (; condition.failing?.disabled !== true && now < 9 * day; now = condition.failing!.until) {
      condition.failed(now, now + 1000, { status: 503, reason: "down", wait });
    }
    assert.deepEqual([condition.failing?.disabled, condition.failing?.since], [true, 0]);
  }
});

/** The target as several processes of the relay have it, without the relay. */
async function processes(context: TestContext, disableAfter: string) {
  const down = () => new Response(null, { status: 503, headers: { "retry-after": "3600" } });
  const { db, server, make, send } = await setUp(
    context,
    ({ body }) => body === "0" ? down() : new Response(),
  );
  await make().drain(); // so that the database has the relay
  await send("acme", 0, 1);
  const log: Notification[] = [];
  const look = { id: "look", channels: "c", handle: (one: Notification) => void log.push(one) };
  await new Consumer(db, look).drain();
  const open = async () => {
    const sink = webhooks({
      endpoint: () => ({
        name: "acme",
        url: server.origin,
        secret: secretOf("acme"),
      }),
      allowPrivateAddresses: true,
      disableAfter,
    });
    const { signal } = new AbortController();
    const opened = await sink.open({ relay: "out", db, trouble() {}, signal });
    context.use(opened);
    const post = async (payload: number) => {
      const notification = log.find((one) => one.payload === payload)!;
      const published = opened.publish({ id: "", install: "", notification }, signal);
      return await published.then(() => undefined, (error: unknown) => error);
    };
    return post;
  };
  return { db, open };
}

test("a process learns while it works that an endpoint fails in another one", async (context) => {
  const { db, open } = await processes(context, "1h");
  const [one, other] = [await open(), await open()];
  assert((await one(0)) instanceof Error);
  await until(async () => (await relayEndpoints(db, "out")).length === 1);
  await until(async () => (await other(1)) instanceof Postponed, { what: "the other to wait" });
});

test("a success in one process ends the failing of an endpoint for all", async (context) => {
  const { db, open } = await processes(context, "1h");
  const [one, other] = [await open(), await open()];
  assert.equal(await other(1), undefined);
  assert((await one(0)) instanceof Error);
  await until(async () => (await relayEndpoints(db, "out")).length === 1);
  // Two hours pass.
  const passed = () =>
    context.sql(
      "update hark.endpoints set failing_since = failing_since - interval '2h', asked_again_at = now()",
    );
  await passed();
  await until(async () => {
    assert.equal(await other(1), undefined);
    return (await relayEndpoints(db, "out")).length === 0;
  }, { what: "the success to be stored" });
  assert((await one(0)) instanceof Error);
  const status = await until(async () => (await relayEndpoints(db, "out"))[0]);
  assert.deepEqual([status?.disabled, status?.failures], [false, 1]);
  // A process that has just looked looks again before it disables an endpoint.
  await passed();
  const third = await open();
  await redriveEndpoint(db, "out", "acme");
  assert(!((await third(0)) instanceof Postponed));
  const again = await until(async () => (await relayEndpoints(db, "out"))[0]);
  assert.deepEqual([again?.disabled, again?.failures], [false, 1]);
});

test("an endpoint that failed once before days without a message is not disabled by its next failure", async (context) => {
  const { db, open } = await processes(context, "5d");
  const one = await open();
  assert((await one(0)) instanceof Error);
  const first = await until(async () => (await relayEndpoints(db, "out"))[0]);
  await context.sql(
    "update hark.endpoints set failing_since = failing_since - interval '6d', asked_again_at = asked_again_at - interval '6d'",
  );
  const later = await open();
  assert(!((await later(0)) instanceof Postponed));
  const status = await until(async () => {
    const [found] = await relayEndpoints(db, "out");
    return found !== undefined && found.failingSince >= first!.failingSince ? found : undefined;
  }, { what: "the second failure to be stored" });
  assert.deepEqual([status?.disabled, status?.failures], [false, 1]);
});

test("an endpoint that is redriven gets nothing of one that answers with its name", async (context) => {
  const { db, make, send, received } = await setUp(
    context,
    ({ path }) =>
      path === "/acme"
        ? new Response(null, { status: 410 })
        : new Response('see endpoint "acme" please', { status: path === "/evil" ? 400 : 410 }),
    {},
    { maxAttempts: 1 },
  );
  await send("acme", 1);
  await send("evil", 2);
  await send("worse", 3, 4);
  await make().drain();
  const asked = ["evil", "worse"].map((to) => received(to).length);
  assert.deepEqual(await redriveEndpoint(db, "out", "acme"), { enabled: true, retried: 1 });
  await make().drain();
  assert.deepEqual(["evil", "worse"].map((to) => received(to).length), asked);
  assert.deepEqual(await redriveEndpoint(db, "out", "evil"), { enabled: false, retried: 1 });
});
