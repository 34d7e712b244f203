/** A producer's own key: who publishes twice under it publishes once. */

import assert from "node:assert/strict";
import {
  cancelDelayed,
  channel,
  connect,
  notify,
  notifyEach,
  notifyMany,
  notifyOnce,
  type NotifyOnceOptions,
  type Queryable,
  type QueryResult,
} from "../../mod.ts";
import { numbers } from "../faults/_support/running.ts";
import { type Client, test, type TestContext, until, within } from "../harness/mod.ts";
import { refusals } from "./_support/refusals.ts";

const count = async ({ sql }: TestContext) =>
  (await sql("select count(*)::int as n from hark.log"))[0].n;

/** Waits until a client's statement waits for another transaction. */
async function waits({ sql }: TestContext, client: Client): Promise<void> {
  const { processID } = client as unknown as { processID: number };
  await until(async () => {
    const rows = await sql(
      "select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'",
      [processID],
    );
    return rows.length === 1;
  }, { what: "a statement to wait for a lock" });
}

test("notifyOnce and notifyEach tell what was published, is delayed, or is a duplicate", async (context) => {
  const db = context.use(await connect(context.url));
  const typed = channel<{ to: number }>("mail");
  const first = await notifyOnce(db, typed, { to: 7 }, { dedupe: "welcome-7" });
  assert.deepEqual(first, { id: 1, isDelayed: false, isDuplicate: false });
  const second = await notifyOnce(db, "mail", { to: 7 }, { dedupe: { key: "welcome-7" } });
  assert.deepEqual(second, { ...first, isDuplicate: true });
  const sent = await notifyEach(db, [
    { channel: typed, payload: { to: 7 }, dedupe: "welcome-7" },
    { channel: "mail", payload: { to: 8 }, dedupe: "welcome-8", delay: "1h" },
    { channel: "mail", payload: { to: 8 }, dedupe: "welcome-8" },
    { channel: "mail" },
  ]);
  assert.deepEqual(
    sent.map(({ isDelayed, isDuplicate }) => [isDelayed, isDuplicate]),
    [[false, true], [true, false], [true, true], [false, false]],
  );
  assert.deepEqual([sent[0]!.id, sent[2]!.id], [first.id, sent[1]!.id]);
  const plain = await notifyEach(db, [{ channel: "mail" }]);
  assert.deepEqual(plain.map(({ isDuplicate }) => isDuplicate), [false]);
  assert.deepEqual(await notifyEach(db, []), []);
  await assert.rejects(notifyOnce(db, "mail", {}, {} as NotifyOnceOptions), {
    code: "BAD_OPTION",
    message: /^dedupe is undefined\. Give a key, or publish with notify\./,
  });
});

test("the second under a key publishes nothing and is given the first one's id", async (context) => {
  const db = context.use(await connect(context.url));
  const first = await notify(db, "c", 1, { dedupe: "order-42" });
  assert.equal(await notify(db, "c", 2, { dedupe: "order-42" }), first);
  assert.equal(await notify(db, "c", 3, { dedupe: { key: "order-42", within: 5 } }), first);
  const others = [
    await notify(db, "d", 4, { dedupe: "order-42" }),
    await notify(db, "c", 5, { dedupe: "Order-42" }),
    await notify(db, "c", 6),
  ];
  assert.equal(new Set([first, ...others]).size, 4);
  const rows = await context.sql("select payload from hark.log order by id");
  assert.deepEqual(rows.map((row) => row.payload), [1, 4, 5, 6]);
  const [{ days }] = await context.sql(
    `select extract(epoch from expires_at - clock_timestamp()) / 86400 as days from hark.dedupe
      where channel = 'd'`,
  );
  assert(days > 0.99 && days <= 1, "a key alone is remembered for a day");
});

test("of 20 who publish under a key at once, one publishes and all get its id", async (context) => {
  const clients = await Promise.all(numbers(1, 20).map(() => context.client()));
  for (let round = 1; round <= 5; round++) {
    const ids = await Promise.all(
      clients.map((client, n) => notify(client, "c", n, { dedupe: `round ${round}` })),
    );
    assert.equal(new Set(ids).size, 1);
    assert.equal(await count(context), round);
  }
});

test("who publishes under a key that an open transaction took waits for it", async (context) => {
  const [first, second] = [await context.client(), await context.client()];
  for (const end of ["rollback", "commit"]) {
    await first.query("begin");
    const taken = await notify(first, "c", "first", { dedupe: end });
    const other = notify(second, "c", "second", { dedupe: end });
    await waits(context, second);
    await first.query(end);
    const given = await within(other);
    assert.equal(given === taken, end === "commit");
  }
  const rows = await context.sql("select payload from hark.log order by id");
  assert.deepEqual(rows.map((row) => row.payload), ["second", "first"]);
});

test("a duplicate makes no publisher wait, however long its transaction stays open", async (context) => {
  const [one, other] = [await context.client(), await context.client()];
  const id = await notify(one, "c", 1, { dedupe: "k" });
  await one.query("begin");
  assert.equal(await notify(one, "c", 2, { dedupe: "k" }), id);
  assert.equal(await within(notify(other, "c", 3, { dedupe: "k" })), id);
  await one.query("rollback");
});

test("a savepoint that is rolled back gives its key back", async (context) => {
  const client = await context.client();
  await client.query("begin; savepoint s");
  await notify(client, "c", 1, { dedupe: "k" });
  await client.query("rollback to s");
  const id = await notify(client, "c", 2, { dedupe: "k" });
  assert.equal(await notify(client, "c", 3, { dedupe: "k" }), id);
  await client.query("commit");
  assert.deepEqual(await context.sql("select id::int, payload from hark.log"), [
    { id, payload: 2 },
  ]);
});

test("a key that has expired is free: one of 20 publishes again", async (context) => {
  const clients = await Promise.all(numbers(1, 20).map(() => context.client()));
  const first = await notify(clients[0]!, "c", 0, { dedupe: { key: "k", within: 0.0001 } });
  await until(async () => {
    const rows = await context.sql("select from hark.dedupe where expires_at <= clock_timestamp()");
    return rows.length === 1;
  });
  const ids = await Promise.all(
    clients.map((client, n) => notify(client, "c", n, { dedupe: { key: "k", within: 60_000 } })),
  );
  assert.equal(new Set(ids).size, 1);
  assert.notEqual(ids[0], first);
  assert.equal(await count(context), 2);
});

test("who finds a key expired while another takes it over waits, and is its duplicate", async (context) => {
  const [one, other] = [await context.client(), await context.client()];
  await notify(one, "c", 1, { dedupe: { key: "k", within: 0.001 } });
  await one.query("begin");
  const id = await notify(one, "c", 2, { dedupe: "k" });
  const waiting = notify(other, "c", 3, { dedupe: "k" });
  await waits(context, other);
  await one.query("commit");
  assert.equal(await within(waiting), id);
});

test("forget_dedupe() and cleaning remove what has expired, in bites, and nothing else", async (context) => {
  const db = context.use(await connect(context.url));
  await notifyMany(
    db,
    numbers(1, 10).map((n) => ({ channel: "c", dedupe: { key: `${n}`, within: 0.001 } })),
  );
  const kept = await notify(db, "c", 1, { dedupe: "kept" });
  const forget = async (batch: number) =>
    Number((await context.sql("select hark.forget_dedupe($1) as n", [batch]))[0].n);
  const other = await context.client();
  await other.query("begin");
  await notify(other, "c", 2, { dedupe: "10" });
  assert.deepEqual([await forget(4), await forget(100), await forget(100)], [4, 5, 0]);
  await other.query("commit");
  assert.equal(await notify(db, "c", 1, { dedupe: "kept" }), kept);
  await context.sql("update hark.dedupe set expires_at = '2020-01-01' where dedupe_key = '10'");
  await context.sql("select hark.clean('2020-01-01')");
  const keys = await context.sql("select dedupe_key from hark.dedupe");
  assert.deepEqual(keys, [{ dedupe_key: "kept" }]);
});

test("what is delayed and deduplicated: its number while it waits, then its id; cancelling frees the key", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 0);
  const again = () => notify(db, "c", 2, { dedupe: "k" });
  const cancelled = await notify(db, "c", 1, { delay: 0, dedupe: "k" });
  assert.equal(await again(), cancelled);
  assert.equal(await cancelDelayed(db, cancelled), true);
  const number = await notify(db, "c", 3, { delay: 0, dedupe: "k" });
  assert.notEqual(number, cancelled);
  await context.sql("select hark.deliver_due()");
  const log = await context.sql("select id::int, payload from hark.log order by id desc");
  assert.deepEqual(log.map((row) => row.payload), [3, 0]);
  assert.equal(await again(), log[0].id);
  const [row] = await context.sql(
    "select * from hark.notify_once('c', dedupe_key => 'k', deliver_at => now())",
  );
  assert.deepEqual(row, { id: String(log[0].id), is_delayed: false, is_duplicate: true });
});

test("delivering does not wait for who takes over the expired key of what it delivers", async (context) => {
  const [one, other] = [await context.client(), await context.client()];
  await notify(one, "c", 1, { delay: 0, dedupe: { key: "k", within: 0.001 } });
  await one.query("begin");
  await notify(one, "c", 2, { dedupe: "k" });
  const { rows } = await within(other.query("select moved, next_ms from hark.deliver_due()"));
  assert.deepEqual(rows, [{ moved: 1, next_ms: null }]);
  await one.query("commit");
  assert.equal(await count(context), 2);
});

test("in REPEATABLE READ who waited in vain is told to try again, and then is a duplicate", async (context) => {
  const [first, second] = [await context.client(), await context.client()];
  for (const level of ["repeatable read", "serializable"]) {
    await second.query(`begin isolation level ${level}; select 1 from pg_class limit 1`);
    const id = await notify(first, "c", 1, { dedupe: level });
    await assert.rejects(notify(second, "c", 2, { dedupe: level }), (error: Error) => {
      assert.equal((error.cause as { code: string }).code, "40001");
      return true;
    });
    await second.query(`rollback; begin isolation level ${level}`);
    assert.equal(await notify(second, "c", 2, { dedupe: level }), id);
    const own = await notify(second, "c", 3, { dedupe: `${level}, own` });
    assert.equal(await notify(second, "c", 4, { dedupe: `${level}, own` }), own);
    await second.query("commit");
  }
  assert.equal(await count(context), 4);
});

test("many at once: the first of each key, ids in order, the others are duplicates", async (context) => {
  const db = context.use(await connect(context.url));
  const known = await notify(db, "c", "known", { dedupe: "known" });
  const ids = await notifyMany(db, [
    { channel: "c", payload: 1, dedupe: "z" },
    { channel: "c", payload: 2 },
    { channel: "c", payload: 3, dedupe: { key: "a", within: 1000 } },
    { channel: "c", payload: 4, dedupe: "known" },
    { channel: "c", payload: 5, dedupe: "z" },
    { channel: "d", payload: 6, dedupe: "z" },
  ]);
  assert.deepEqual([ids[3], ids[4]], [known, ids[0]]);
  const log = await context.sql("select id::int, payload from hark.log where id > $1 order by id", [
    known,
  ]);
  assert.deepEqual(log.map((row) => row.payload), [1, 2, 3, 6]);
  assert.deepEqual(log.map((row) => row.id), [ids[0], ids[1], ids[2], ids[5]]);
});

test("two who publish many under the same keys, in opposite order, do not deadlock", async (context) => {
  const [one, other] = [await context.client(), await context.client()];
  for (let round = 0; round < 10; round++) {
    const items = numbers(1, 40).map((n) => ({ channel: "c", dedupe: `${round} ${n}` }));
    const [a, b] = await within(Promise.all([
      notifyMany(one, items),
      notifyMany(other, items.toReversed()),
    ]));
    assert.deepEqual(a, b.toReversed());
    assert.equal(await count(context), (round + 1) * 40);
  }
});

test("keys full of quotes, SQL and emoji are keys", async (context) => {
  const db = context.use(await connect(context.url));
  const keys = [
    "it's",
    '"',
    "\\",
    "'); drop table hark.dedupe; --",
    "$1",
    " ",
    "null",
    "é",
    "e\u0301",
    "😀".repeat(200),
    "x".repeat(200),
  ];
  const ids: number[] = [];
  for (const key of keys) ids.push(await notify(db, key, 1, { dedupe: key }));
  for (const [at, key] of keys.entries()) {
    assert.equal(await notify(db, key, 1, { dedupe: { key } }), ids[at]);
  }
  assert.equal(new Set(ids).size, keys.length);
});

test("a dedupe key that cannot be is refused with value, reason and remedy", async (context) => {
  const db = context.use(await connect(context.url));
  await refusals(context, db, [
    [{ dedupe: "" }, /dedupe key is ""\. Give text of 1 to 200/],
    [{ dedupe: "x".repeat(201) }, /dedupe key is "x+\.\.\./],
    [{ dedupe: "😀".repeat(201) }, /dedupe key is/],
    [{ dedupe: "\0" }, /dedupe key .*cannot store/],
    [{ dedupe: "\ud800" }, /dedupe key .*cannot store/],
    [{ dedupe: null }, /dedupe is null\. Give a key/],
    [{ dedupe: NaN }, /dedupe key is NaN/],
    [{ dedupe: ["k"] }, /dedupe is \["k"\]/],
    [{ dedupe: {} }, /dedupe key is undefined/],
    [{ dedupe: { key: true } }, /dedupe key is true/],
    [{ dedupe: { key: "k", whitin: 5 } }, /no option "whitin"/],
    [
      { dedupe: { key: "k", within: 0 } },
      /within is 0\. Give milliseconds, more than 0 and at most/,
    ],
    [{ dedupe: { key: "k", within: -5 } }, /within is -5/],
    [{ dedupe: { key: "k", within: NaN } }, /within is NaN/],
    [{ dedupe: { key: "k", within: Infinity } }, /within is Infinity/],
    [{ dedupe: { key: "k", within: "1 hour" } }, /within is "1 hour"/],
  ]);
  for (
    const call of [
      "hark.notify_once('c')",
      "hark.notify_once('c', dedupe_key => '')",
      "hark.notify_once('c', dedupe_key => repeat('é', 201))",
      "hark.notify_once('c', dedupe_key => 'k', within => '0')",
      "hark.notify_once('c', dedupe_key => 'k', within => null)",
      "hark.notify_once('c', dedupe_key => 'k', within => '11 years')",
      "hark.notify_once('c', dedupe_key => 'k', deliver_at => 'infinity')",
      `hark.notify_each('[{"channel": "c", "dedupe_key": ""}]')`,
    ]
  ) {
    await assert.rejects(db.query(`select ${call}`), { code: "BAD_OPTION", message: /Give/ }, call);
  }
  const [{ n }] = await context.sql("select count(*)::int as n from hark.dedupe");
  assert.equal(n, 0);
});

test("who uses neither pays for neither: the same functions are called as ever", async (context) => {
  const client = await context.client();
  const texts: string[] = [];
  const spy: Queryable = {
    query(text: string, values?: unknown[]): Promise<QueryResult> {
      texts.push(/hark\.\w+/.exec(text)![0]);
      return client.query(text, values);
    },
  };
  await notify(spy, "c", 1, { key: "k", headers: {} });
  await notifyMany(spy, [{ channel: "c" }, { channel: "c", key: "k" }]);
  await notifyMany(spy, [{ channel: "c" }, { channel: "c", delay: 0 }]);
  assert.deepEqual(texts, ["hark.notify", "hark.notify_many", "hark.notify_each"]);
});
