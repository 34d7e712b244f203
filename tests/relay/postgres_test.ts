import assert from "node:assert/strict";
import { connect, type Database, deadLetters, notify, notifyMany, seek } from "../../mod.ts";
import { postgres, relay, webhooks } from "../../src/relay/mod.ts";
import { partner } from "../handlers/_support/partner.ts";
import { cutProxy, test, type TestContext, until } from "../harness/mod.ts";
import { control } from "../harness/control.ts";
import { install } from "../harness/template.ts";

test("a relay to another PostgreSQL publishes each once and in order, over lost connections and a seek", async ({ url, use, database }) => {
  const name = `${database}_there`;
  await control.sql(`create database ${name}`);
  use({
    [Symbol.asyncDispose]: async () => void await control.sql(`drop database ${name} with (force)`),
  });
  const to = new URL(url);
  to.pathname = `/${name}`;
  await install(to.href);
  const proxy = use(cutProxy(Number(to.port) || 5432, to.hostname));
  const here = use(await connect(url));
  const there = use(await connect(proxy.through(to.href), { listen: false }));
  const looking = use(await connect(to.href, { listen: false }));
  const all = async () =>
    (await looking.query("select key, payload, headers from hark.log order by id")).rows;
  const publish = (from: number) =>
    notifyMany(
      here,
      Array.from({ length: 200 }, (_, i) => ({
        channel: "orders",
        key: `k${i % 7}`,
        payload: from + i,
        headers: { by: "shop" },
      })),
    );
  const make = () => relay(here, { id: "copy", channels: "orders", to: postgres({ db: there }) });
  const out = make();
  const running = out.run();
  await out.ready;
  await publish(0);
  await until(async () => (await all()).length >= 100);
  proxy.refuse();
  await publish(200);
  proxy.resume();
  await publish(400);
  await until(async () => (await all()).length >= 600, { deadline: 20_000 });
  await out.stop();
  await running;
  await seek(here, "copy", "beginning");
  await make().drain();
  const rows = await all();
  assert.equal(rows.length, 600);
  assert.match(rows[0].headers["hark-relayed"], /^hark:.*:1$/);
  const last = new Map<string, number>();
  for (const { key, payload } of rows) {
    assert((last.get(key) ?? -1) < payload, `${key}: ${payload} after ${last.get(key)}`);
    last.set(key, payload);
  }
});

/** Makes another database on the server, which is removed at the end of the test. */
async function another({ url, use, database }: TestContext, encoding = "UTF8"): Promise<Database> {
  const name = `${database}_there`;
  const how = `encoding '${encoding}' locale 'C' template template0`;
  await control.sql(`create database ${name} ${how}`);
  use({
    [Symbol.asyncDispose]: async () => void await control.sql(`drop database ${name} with (force)`),
  });
  const to = new URL(url);
  to.pathname = `/${name}`;
  await install(to.href);
  return use(await connect(to.href, { listen: false }));
}

test("relays between two databases send nothing back, and none goes to its own", async (context) => {
  const here = context.use(await connect(context.url));
  const there = await another(context);
  const out = relay(here, { id: "out", channels: "orders", to: postgres({ db: there }) });
  const back = relay(there, { id: "back", channels: "orders", to: postgres({ db: here }) });
  await notify(here, "orders", "from here");
  await notify(there, "orders", "from there");
  for (let round = 0; round < 3; round++) for (const each of [out, back]) await each.drain();
  for (const db of [here, there]) {
    const { rows } = await db.query("select payload from hark.log order by payload");
    assert.deepEqual(rows.map(({ payload }) => payload), ["from here", "from there"]);
  }
  const own = (channel?: () => string) =>
    relay(here, {
      id: "own",
      channels: "orders",
      to: postgres({ db: here, ...channel === undefined ? {} : { channel } }),
    });
  await assert.rejects(() => own().run(), /the other database is this one\. Give another/);
  await own(() => "orders").drain();
  const [letter] = await deadLetters(here, { consumer: "own" });
  assert.match(letter!.error!, /on its own channel, again and again/);
  await own(() => "copies").drain();
});

test("numbers beyond 2^53 keep their digits, in payloads and headers, on each way out", async (context) => {
  const there = await another(context);
  const here = context.use(await connect(context.url));
  const big = "12345678901234567890.123";
  await context.sql("select hark.notify('c', $1::jsonb, null, $2::jsonb)", [
    `{"n": ${big}}`,
    `{"n": ${big}, "hark-relayed": "forged"}`,
  ]);
  await context.sql("select hark.notify('c', $1::jsonb)", [big]);
  const server = partner(context, () => new Response());
  const hook = webhooks({
    endpoint: () => ({ name: "a", url: server.origin, secret: `whsec_${btoa("x".repeat(32))}` }),
    allowPrivateAddresses: true,
  });
  for (const [id, to] of [["copy", postgres({ db: there })], ["hook", hook]] as const) {
    assert.equal(await relay(here, { id, channels: "c", to }).drain(), 2);
  }
  const { rows } = await there.query(
    "select payload::text, headers->>'n' as n, headers->>'hark-relayed' as id from hark.log order by id",
  );
  assert.deepEqual(rows.map(({ payload, n }) => [payload, n]), [[`{"n": ${big}}`, big], [
    big,
    null,
  ]]);
  assert.match(rows[0].id, /^hark:.*:1$/);
  assert.deepEqual(server.received.map(({ body }) => body).sort(), [big, `{"n": ${big}}`]);
});

test("what the other database cannot store becomes a dead letter, and holds up nothing else", async (context) => {
  const here = context.use(await connect(context.url));
  const there = await another(context, "LATIN1");
  await notifyMany(here, ["ключ", "key"].map((key) => ({ channel: "orders", key })));
  const to = postgres({ db: there });
  await relay(here, { id: "out", channels: "orders", to, maxAttempts: 1 }).drain();
  const { rows } = await there.query("select key from hark.log");
  assert.deepEqual(rows, [{ key: "key" }]);
  const [letter] = await deadLetters(here, { consumer: "out" });
  assert.match(letter!.error!, /has no equivalent in encoding "LATIN1"/);
});

test("while the other database is read-only, a relay asks it seldom, and then goes on", async (context) => {
  const here = context.use(await connect(context.url));
  const there = await another(context);
  // The second is as behind a pooler, which asks the primary and publishes to a standby.
  for (const [id, what, count, least] of [["a", /./, 5, 650], ["b", /notify/, 7, 280]] as const) {
    let isReadOnly = true;
    const asked: number[] = [];
    const db = Object.create(there, {
      query: {
        value: async (text: string, values?: unknown[]) => {
          if (!isReadOnly) return await there.query(text, values);
          // Those that opened it do not count.
          if (asked.length > 0 || text.includes("notify")) asked.push(performance.now());
          return await there.transaction(async (tx) => {
            if (what.test(text)) await tx.query("set transaction read only");
            return await tx.query(text, values);
          });
        },
      },
    });
    await notify(here, id, 1);
    const draining = relay(here, { id, channels: id, to: postgres({ db }) }).drain();
    await until(() => asked.length >= count);
    const took = asked[count - 1]! - asked[0]!;
    isReadOnly = false;
    assert.equal(await draining, 1);
    const { rows } = await there.query("select channel from hark.log where channel = $1", [id]);
    assert.equal(rows.length, 1);
    assert(took >= least, `${count} statements in ${Math.round(took)} ms`);
  }
});
