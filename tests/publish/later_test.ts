/** Delayed notifications: never early, each once, in order, and taken back while there is time. */

import assert from "node:assert/strict";
import { cancelDelayed, connect, notify, notifyMany } from "../../mod.ts";
import { NEVER_POLL, numbers, Reading } from "../faults/_support/running.ts";
import { Inbox, patient, test, type TestContext, until } from "../harness/mod.ts";
import { refusals } from "./_support/refusals.ts";

const ago = (ms: number) => new Date(Date.now() - ms);
const HOUR = 3_600_000;

/** The payloads in the log, in the order of ids. */
async function delivered({ sql }: Pick<TestContext, "sql">): Promise<unknown[]> {
  return (await sql("select payload from hark.log order by id")).map((row) => row.payload);
}

/** Moves what is due, as a worker does. */
async function deliverDue(
  { sql }: Pick<TestContext, "sql">,
  batch = 1000,
): Promise<{ moved: number; next: number | null }> {
  const [row] = await sql("select moved, next_ms as next from hark.deliver_due($1)", [batch]);
  return row;
}

test("a delayed notification arrives when it is due, not before, without polling", async (context) => {
  const db = context.use(await connect(context.url));
  const reading = context.use(
    new Reading(db, "c", { from: "beginning", pollInterval: NEVER_POLL }),
  );
  await notify(db, "c", "at once");
  await reading.inbox.atLeast(1);
  const [{ began }] = await context.sql("select clock_timestamp()::text as began");
  // Long enough for the first to be published before either is due.
  const delay = patient(2000);
  await notify(db, "c", 2, { delay, key: "k", headers: { by: "me" } });
  const [{ time }] = await context.sql(
    "select date_trunc('ms', deliver_at - $1::integer * interval '1 ms') as time from hark.delayed",
    [Math.round(delay / 2)],
  );
  await notify(db, "c", 1, { deliverAt: time });
  const [, first, second] = await reading.inbox.atLeast(3);
  assert.deepEqual([first!.payload, second!.payload], [1, 2]);
  assert.deepEqual([second!.key, second!.headers, second!.channel], ["k", { by: "me" }, "c"]);
  const early = await context.sql(
    `select id from hark.log
      where payload = '2' and created_at < $1::text::timestamptz + $3::integer * interval '1 ms'
        or payload = '1' and created_at < $2`,
    [began, time, delay],
  );
  assert.deepEqual(early, []);
});

test("they are delivered by their time, those of one moment as they were published", async (context) => {
  const db = context.use(await connect(context.url));
  const moment = ago(50);
  await notify(db, "c", "third", { deliverAt: moment });
  await notify(db, "d", "second", { deliverAt: ago(5000) });
  await notifyMany(db, [
    { channel: "c", payload: "fourth", deliverAt: moment },
    { channel: "c", payload: "first", deliverAt: new Date(-1e14) },
    { channel: "c", payload: "last", delay: 0 },
  ]);
  await until(async () => (await deliverDue(context)).next === null);
  assert.deepEqual(await delivered(context), ["first", "second", "third", "fourth", "last"]);
});

test("what is due while no worker runs is delivered by the next one, once", async (context) => {
  const db = context.use(await connect(context.url));
  const options = { from: "beginning", pollInterval: NEVER_POLL } as const;
  {
    await using before = new Reading(db, "c", options);
    await notify(db, "c", 0);
    await before.inbox.atLeast(1);
    await notify(db, "c", 1, { delay: HOUR });
  }
  await context.sql("update hark.delayed set deliver_at = clock_timestamp()");
  const both = [new Reading(db, "c", options), new Reading(db, "c", options)].map(context.use);
  for (const reading of both) {
    await reading.inbox.atLeast(2);
    assert.deepEqual(reading.payloads, [0, 1]);
  }
  await notify(db, "c", 2);
  for (const reading of both) {
    await reading.inbox.atLeast(3);
    assert.deepEqual(reading.payloads, [0, 1, 2]);
  }
});

test("it is delayed if and only if its transaction commits", async (context) => {
  const db = context.use(await connect(context.url));
  const client = await context.client();
  await client.query("begin");
  await notify(client, "c", "rolled back", { delay: 0 });
  await client.query("rollback");
  await client.query("begin");
  await notify(client, "c", "kept", { delay: 0 });
  await client.query("savepoint s");
  await notify(client, "c", "undone", { delay: 0 });
  await client.query("rollback to s");
  assert.deepEqual(await deliverDue(context), { moved: 0, next: null });
  await client.query("commit");
  await notify(db, "c", "later", { delay: HOUR });
  assert.equal((await deliverDue(context)).moved, 1);
  assert.deepEqual(await delivered(context), ["kept"]);
});

test("of 8 who deliver at once, each of 2,000 is delivered by one, in order", async (context) => {
  const db = context.use(await connect(context.url));
  const items = numbers(1, 2000).map((n) => ({
    channel: `c${n % 3}`,
    payload: n,
    key: `k${n % 7}`,
    deliverAt: ago(10_000 - (n % 500)),
  }));
  await notifyMany(db, items);
  await context.sql("create table planned as select * from hark.delayed");
  const clients = await Promise.all(numbers(1, 8).map(() => context.client()));
  let moved = 0;
  await Promise.all(clients.map(async (client) => {
    await until(async () => {
      const { rows: [row] } = await client.query("select * from hark.deliver_due(130)");
      moved += row.moved;
      return row.next_ms === null;
    });
  }));
  assert.equal(moved, 2000);
  const wrong = await context.sql(
    `select from (select row_number() over (order by id) as place, * from hark.log) l
      full join (select row_number() over (order by deliver_at, number) as place, * from planned) p
        using (place)
      where l.payload is distinct from p.payload or l.channel <> p.channel or l.key <> p.key`,
  );
  assert.deepEqual(wrong, []);
  assert.deepEqual(await context.sql("select * from hark.delayed"), []);
});

test("who delivers is told when the next is due", async (context) => {
  const db = context.use(await connect(context.url));
  assert.deepEqual(await deliverDue(context), { moved: 0, next: null });
  await notify(db, "c", 1, { deliverAt: ago(5) });
  await notify(db, "c", 2, { deliverAt: ago(4) });
  await notify(db, "c", 3, { delay: HOUR });
  const first = await deliverDue(context, 1);
  assert(first.moved === 1 && first.next! <= 0, JSON.stringify(first));
  const second = await deliverDue(context, 1);
  assert(second.moved === 1 && second.next! > HOUR / 2 && second.next! <= HOUR);
  const third = await deliverDue(context);
  assert(third.moved === 0 && third.next! > HOUR / 2 && third.next! <= HOUR);
  await assert.rejects(deliverDue(context, 0), { code: "HK006" });
});

test("where nothing is due, nothing is written", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1, { delay: HOUR });
  const client = await context.client();
  await client.query("begin");
  await client.query("select * from hark.deliver_due()");
  const { rows } = await client.query("select pg_current_xact_id_if_assigned() as xid");
  assert.equal(rows[0].xid, null);
  await client.query("commit");
});

test("cancelDelayed() takes one back while it waits, and says whether it did", async (context) => {
  const db = context.use(await connect(context.url));
  const number = await notify(db, "c", 1, { delay: 0 });
  assert.equal(await cancelDelayed(db, number), true);
  assert.equal(await cancelDelayed(db, number), false);
  assert.equal(await cancelDelayed(db, 999), false);
  assert.deepEqual(await deliverDue(context), { moved: 0, next: null });
  const kept = await notify(db, "c", 2, { delay: 0 });
  await assert.rejects(
    db.transaction(async (tx) => {
      assert.equal(await cancelDelayed(tx, kept), true);
      throw new Error("changed my mind");
    }),
    { message: "changed my mind" },
  );
  assert.equal((await deliverDue(context)).moved, 1);
  assert.equal(await cancelDelayed(db, kept), false);
  assert.deepEqual(await delivered(context), [2]);
});

test("a transaction that is taking one back holds up no other", async (context) => {
  const db = context.use(await connect(context.url));
  const numbers: number[] = [];
  for (const n of [1, 2, 3]) numbers.push(await notify(db, "c", n, { delay: 0 }));
  const client = await context.client();
  await client.query("begin");
  assert.equal(await cancelDelayed(client, numbers[1]!), true);
  const next = await deliverDue(context);
  assert.equal(next.moved, 2);
  assert(next.next! > 0 && next.next! <= 1000, "it says when to look again");
  assert.deepEqual(await delivered(context), [1, 3]);
  await client.query("rollback");
  assert.deepEqual(await deliverDue(context), { moved: 1, next: null });
  assert.deepEqual(await delivered(context), [1, 3, 2]);
});

test("workers are told of a new one, and readers when it is delivered; hark.wake = off tells none", async (context) => {
  const listener = await context.client();
  const heard = new Inbox<string>();
  listener.on("notification", ({ channel, payload }) => heard.push(`${channel}:${payload}`));
  await listener.query("listen hark; listen hark_control");
  await context.sql("select hark.sleep(gen_random_uuid(), array['silent', 'loud'], null, 60000)");
  const client = await context.client();
  await client.query("begin; set local hark.wake = off");
  await notify(client, "silent", 1, { delay: 0 });
  await client.query("select hark.deliver_due(); commit");
  await notify(client, "loud", 1, { delay: 0 });
  await heard.atLeast(1);
  await client.query("select hark.deliver_due()");
  await heard.atLeast(2);
  assert.deepEqual(heard.items, ["hark_control:", "hark:loud"]);
});

test("all or none of many are published, their numbers and ids in the order given", async (context) => {
  const db = context.use(await connect(context.url));
  const [one, two, three, four] = await notifyMany(db, [
    { channel: "c", payload: 1 },
    { channel: "c", payload: 2, delay: HOUR },
    { channel: "d", payload: 3 },
    { channel: "c", deliverAt: new Date(Date.now() + HOUR) },
  ]);
  const log = await context.sql("select id::int, payload from hark.log order by id");
  assert.deepEqual(log, [{ id: one, payload: 1 }, { id: three, payload: 3 }]);
  const delayed = await context.sql("select number::int, payload from hark.delayed order by 1");
  assert.deepEqual(delayed, [{ number: two, payload: 2 }, { number: four, payload: {} }]);
  await assert.rejects(
    db.query("select hark.notify_each($1)", [JSON.stringify([
      { channel: "c", payload: 9 },
      { channel: "c", payload: 9, delay_ms: 5 },
      { channel: "c", payload: 9, delay_ms: -5 },
    ])]),
    { code: "BAD_OPTION", message: /delay is -5 ms.*Give milliseconds/ },
  );
  await assert.rejects(
    notifyMany(db, [{ channel: "c" }, { channel: "c", delay: -1 }]),
    { code: "BAD_OPTION" },
  );
  assert.equal((await context.sql("select * from hark.log")).length, 2);
});

test("quotes, SQL, emoji and 5 MB arrive as they were, late", async (context) => {
  const db = context.use(await connect(context.url));
  const texts = [
    "it's",
    '"double"',
    "back\\slash",
    "'); drop table hark.delayed; --",
    "$1 $$ %s {0}",
    "Ünïcödé 漢字 🐘",
    "\u2028\u0001",
    "😀".repeat(200),
  ];
  const payload = (text: string) => ({ [text]: text, list: [text] });
  for (const text of texts) {
    await notify(db, text, payload(text), { key: text, headers: { [text]: text }, delay: 0 });
  }
  const big = { text: "é".repeat(2_500_000) };
  await notify(db, "c", big, { delay: 0 });
  await notify(db, "c", null, { delay: 0 });
  const reading = context.use(new Reading(db, null, { from: "beginning" }));
  const items = await reading.inbox.atLeast(texts.length + 2);
  for (const [at, text] of texts.entries()) {
    const n = items[at]!;
    assert.deepEqual([n.channel, n.key, n.headers], [text, text, { [text]: text }]);
    assert.deepEqual(n.payload, payload(text));
  }
  assert.deepEqual(reading.payloads.slice(-2), [big, null]);
});

test("large payloads that are due at once are moved in bites, in order", async (context) => {
  // Text of 12 MB that does not compress.
  await context.sql(`with big as materialized (
      select string_agg(md5(g::text), '') as text from generate_series(1, 375000) g
    )
    insert into hark.delayed (channel, payload, deliver_at, owner)
    select 'c', to_jsonb(n || text), now() - interval '1 minute' + n * interval '1 second', 'x'
    from generate_series(1, 4) n, big`);
  await context.sql("select hark.notify_at('c', '5', deliver_at => now() - interval '1 second')");
  assert.deepEqual([(await deliverDue(context)).moved, await deliverDue(context)], [3, {
    moved: 2,
    next: null,
  }]);
  const [{ order }] = await context.sql(
    "select string_agg(left(payload #>> '{}', 1), '' order by id) as order from hark.log",
  );
  assert.equal(order, "12345");
});

test("a delay that cannot be is refused with value, reason and remedy", async (context) => {
  const db = context.use(await connect(context.url));
  await refusals(context, db, [
    [{ delay: -1 }, /delay is -1\. Give milliseconds from 0/],
    [{ delay: NaN }, /delay is NaN/],
    [{ delay: Infinity }, /delay is Infinity/],
    [{ delay: Date.now() }, /delay is \d+\. .*for a point in time, give deliverAt/],
    [{ delay: "5 m" }, /delay is "5 m"/],
    [{ delay: null }, /delay is null/],
    [{ delay: 5n }, /delay is 5n/],
    [{ deliverAt: new Date(NaN) }, /deliverAt is Invalid Date\. Give a valid Date/],
    [{ deliverAt: "2030-01-01" }, /deliverAt is "2030-01-01"/],
    [{ deliverAt: Date.now() }, /deliverAt is \d+\. Give a valid Date/],
    [{ deliverAt: new Date("300000-01-01") }, /deliverAt is Invalid Date/],
    [{ deliverAt: new Date(8.64e15) }, /deliverAt is "\+275760.*within 10 years/],
    [{ deliverAt: new Date(), delay: 5 }, /both delay \(5\) and deliverAt/],
  ]);
  for (const number of [0, -1, 1.5, NaN, "1", null, 2 ** 53]) {
    // deno-lint-ignore no-explicit-any -- wrong on purpose
    await assert.rejects(cancelDelayed(db, number as any), { code: "BAD_OPTION" });
  }
});

test("the limits hold for plain SQL too", async (context) => {
  const db = context.use(await connect(context.url));
  for (
    const [call, code] of [
      ["hark.notify_at('c')", "BAD_OPTION"],
      ["hark.notify_at('c', deliver_at => 'infinity')", "BAD_OPTION"],
      ["hark.notify_at('c', deliver_at => '-infinity')", "BAD_OPTION"],
      ["hark.notify_at('c', deliver_at => now() + interval '11 years')", "BAD_OPTION"],
      ["hark.notify_at('', deliver_at => now())", "BAD_CHANNEL"],
      ["hark.notify_at('c', key => repeat('x', 1001), deliver_at => now())", "BAD_PAYLOAD"],
      ["hark.notify_at('c', headers => '[]', deliver_at => now())", "BAD_PAYLOAD"],
      [
        `hark.notify_each('[{"channel":"c","delay_ms":1,"deliver_at":"2027-01-01"}]')`,
        "BAD_OPTION",
      ],
    ] as const
  ) await assert.rejects(db.query(`select ${call}`), { name: "HarkError", code }, call);
  assert.deepEqual(await context.sql("select * from hark.delayed"), []);
  const [{ made }] = await context.sql(
    `select hark.notify_at('c', '{"id": 42}', deliver_at => '1999-12-31') as made`,
  );
  assert(Number(made) > 0);
  await deliverDue(context);
  assert.deepEqual(await delivered(context), [{ id: 42 }]);
});
