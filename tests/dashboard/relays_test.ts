/** What the pages say of relays and inboxes, and what they can do about the messages of an inbox. */

import assert from "node:assert/strict";
import { connect, Consumer, notifications, status } from "../../mod.ts";
import { redriveIn } from "../../src/inbox/dead_in_short.ts";
import { acts } from "../../src/operate/acts.ts";
import { Troubles } from "../../src/relay/troubles.ts";
import type { Visitor } from "../../src/dashboard/mod.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { visits } from "./_support/visit.ts";

const ada: Visitor = { name: "ada", role: "operate" };

/** An inbox with two messages that could not be published, of which one can be now. */
async function inbox({ sql }: TestContext): Promise<void> {
  await sql("select hark.inbox_place('in', 'the stream SHOP', 0)");
  const message = (sequence: number, body: string) => ({
    sequence,
    subject: "orders.new",
    headers: {},
    body: btoa(body),
    reason: "the channel was refused",
  });
  await sql("select hark.inbox_take('in', 'the stream SHOP', 0, 9, $1::json, 40)", [
    JSON.stringify([message(5, '{"total": 12}'), message(7, "no JSON at all")]),
  ]);
}

test("the page of inboxes says how far each is, what it could not publish and why", async (context) => {
  await inbox(context);
  const { get } = visits(context.use(await connect(context.url)), { authorize: () => ada });
  const { text } = await get("/relays");
  for (const said of [/the stream SHOP/, /has dead letters/, /the channel was refused/]) {
    assert.match(text, said);
  }
  assert.match(text, /data-label="Left in the stream"[^>]*>\s*<div><span class="num">40</);
  const one = await get("/relays?inbox=in");
  assert.match(one.text, /orders\.new/);
  assert.doesNotMatch(one.text, /total/);
  assert.match((await get("/relays?inbox=none")).text, /There is no inbox/);
  assert.match((await get("/")).text, /could not publish 2 of the messages/);
});

test("a message of an inbox is published or discarded from its page, and the record says which", async (context) => {
  await inbox(context);
  const db = context.use(await connect(context.url));
  const { get, post, token } = visits(db, { authorize: () => ada });
  const good = await token("/relays?inbox=in");
  const send = async (fields: Record<string, string>) => {
    const { status, location } = await post({
      ...fields,
      inbox: "in",
      token: good,
      back: "/relays",
    });
    assert.equal(status, 303);
    return (await get(location!)).text;
  };
  assert.match(
    await send({ act: "redrive" }),
    /1 message of &quot;in&quot; published; 1 message failed again, the last one by: the body is no JSON/,
  );
  const { notifications: [published] } = await notifications(db);
  assert.deepEqual([published!.channel, published!.payload], ["orders.new", { total: 12 }]);
  assert.match(await send({ act: "redrive", number: "1" }), /no dead letter 1/);
  assert.match(
    await send({ act: "drop", number: "2" }),
    /Dead letter 2 of &quot;in&quot; was discarded/,
  );
  assert.match(await send({ act: "drop", number: "2" }), /gone already/);
  assert.equal((await status(db)).inboxes[0]!.dead, 0);
  assert.deepEqual((await acts(db)).map(({ what, detail, person }) => [what, detail, person]), [
    ["discard", "dead letter 2 of the inbox in", "ada"],
    ["redrive", "dead letter 1 of the inbox in", "ada"],
  ]);
});

test("a message that was sent again and published is not published once more from the page", async (context) => {
  const { sql } = context;
  await sql("select hark.inbox_place('in', 'the stream SHOP', 0)");
  const dead = {
    sequence: 1,
    subject: "shop",
    headers: { "Nats-Msg-Id": "m1" },
    body: btoa("1"),
    within_ms: 86_400_000,
    reason: "there was no such table",
  };
  await sql("select hark.inbox_take('in', 'the stream SHOP', 0, 2, $1::json)", [
    JSON.stringify([dead, { ...dead, sequence: 2 }]),
  ]);
  const { get, post, token } = visits(context.use(await connect(context.url)), {
    authorize: () => ada,
  });
  const { location } = await post({
    act: "redrive",
    inbox: "in",
    token: await token("/relays?inbox=in"),
    back: "/relays",
  });
  assert.match((await get(location!)).text, /published; 1 message dropped as a repeat/);
  assert.equal((await sql("select from hark.log")).length, 1);
});

test("a relay whose target is away is told with the target, the reason and since when, until it goes on", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, { id: "out", channels: "orders", handle() {} });
  await consumer.drain();
  await context.sql("select hark.relay_place('out', 0, 'nats://10.0.0.7 SHOP', 0)");
  const troubles = new Troubles("relay", "out", db);
  troubles.tell("no server answers at 10.0.0.7");
  await until(async () => (await status(db)).relays[0]?.trouble != null);
  // The doctor leaves out what is over in a moment.
  await context.sql("update hark.troubles set since = now() - interval '1 minute'");
  const { get } = visits(db, { authorize: () => ada });
  const { text } = await get("/relays");
  assert.match(text, /nats:\/\/10\.0\.0\.7 SHOP/);
  assert.match(text, /waits for its target/);
  assert.match(text, /no server answers at 10\.0\.0\.7/);
  assert.match(
    (await get("/")).text,
    /the relay &quot;out&quot; has waited for|The relay &quot;out&quot; has waited for/,
  );
  assert.match((await get("/consumer?name=out")).text, /nats:\/\/10\.0\.0\.7 SHOP/);
  troubles.tell(undefined);
  await troubles.forget();
  const [relay] = (await status(db)).relays;
  assert.deepEqual([relay!.targets, relay!.trouble, relay!.troubleSince], [
    ["nats://10.0.0.7 SHOP"],
    null,
    null,
  ]);
});

test("an endpoint that takes nothing is told on the overview, and asked again from the page of relays", async (context) => {
  const db = context.use(await connect(context.url));
  await new Consumer(db, { id: "out", channels: "orders", handle() {} }).drain();
  await context.sql("select hark.relay_place('out', 0, 'webhooks', 0)");
  const failing = (endpoint: string, disabled: boolean, failing_ms: number) => ({
    ...{ endpoint, disabled, failing_ms, failures: 9, wait_ms: 60_000, status: 503 },
    reason: `${endpoint} answered 503`,
  });
  await context.sql("select hark.keep_relay_endpoints('out', $1::json, '{}')", [
    JSON.stringify([
      failing("slow", false, 1000),
      failing("away", false, 3_600_000),
      failing("gone", true, 9_000_000),
    ]),
  ]);
  const { get, post, token } = visits(db, { authorize: () => ada });
  const overview = (await get("/")).text;
  assert.match(overview, /The relay &quot;out&quot; has disabled the endpoint &quot;gone&quot;/);
  assert.match(
    overview,
    /2 endpoints of the relay &quot;out&quot; fail, &quot;away&quot; for 60 min/,
  );
  const { text } = await get("/relays");
  assert.match(text, /1 endpoint disabled, 2 failing/);
  assert(text.indexOf("gone answered 503") < text.indexOf("away answered 503"), "the worst first");
  const asked = await post({
    act: "ask",
    relay: "out",
    endpoint: "gone",
    token: await token("/relays"),
    back: "/relays",
  });
  assert.match((await get(asked.location!)).text, /&quot;gone&quot; is asked again; 0 notif/);
  const [relay] = (await status(db)).relays;
  assert.deepEqual(
    [relay!.disabledEndpoints, relay!.failingEndpoints, relay!.endpoints.map((e) => e.endpoint)],
    [0, 2, ["away", "slow"]],
  );
});

test("what an earlier process of a relay waited for is forgotten when a new one goes on", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("select hark.tell_trouble('inbox', 'in', 'left by a process that was killed')");
  const troubles = new Troubles("inbox", "in", db);
  troubles.tell(undefined);
  await troubles.forget();
  assert.deepEqual(await context.sql("select from hark.troubles"), []);
});

test("a thousand messages are published a few at a time, as each may have megabytes", async (context) => {
  const { sql } = context;
  await sql("select hark.inbox_place('in', 'the stream SHOP', 0)");
  const dead = Array.from({ length: 45 }, (_, i) => ({
    sequence: i + 1,
    subject: "shop",
    headers: {},
    body: btoa(i === 20 ? "no json" : String(i)),
    reason: "there was no such table",
  }));
  await sql("select hark.inbox_take('in', 'the stream SHOP', 0, 45, $1::json)", [
    JSON.stringify(dead),
  ]);
  const db = context.use(await connect(context.url));
  let most = 0;
  const done = await db.transaction((tx) =>
    redriveIn(
      {
        async query(text, values) {
          const result = await tx.query(text, values);
          most = Math.max(most, result.rows.length);
          return result;
        },
      },
      "in",
      undefined,
    )
  );
  assert.deepEqual([done.published, done.left], [44, 1]);
  assert(most <= 20, `${most} at once`);
  const payloads = (await sql("select payload from hark.log order by id")).map((r) => r.payload);
  assert.deepEqual(payloads, Array.from({ length: 45 }, (_, i) => i).filter((i) => i !== 20));
});
