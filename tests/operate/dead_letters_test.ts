import assert from "node:assert/strict";
import { connect, deadLetters, discard, type Queryable, retry } from "../../mod.ts";
import { patient, test, type TestContext } from "../harness/mod.ts";
import { deadGroups } from "../../src/operate/dead_groups.ts";
import { odd, range } from "./_support/by_hand.ts";

/** Ten dead letters of "r", an hour apart, and one of "s". */
async function tenDead({ sql }: TestContext): Promise<Date> {
  const noon = new Date(Date.UTC(2026, 0, 1, 12));
  await sql("select hark.register('r', array['c', 'd'], partitions => 4)");
  await sql("select hark.register('s', array['c'])");
  await sql("select hark.notify('c') from generate_series(1, 10)");
  await sql(
    `insert into hark.dead (consumer, id, channel, key, payload, headers, created_at, attempts, error, died_at)
    select 'r', n, case when n % 2 = 0 then 'd' else 'c' end, case when n < 4 then $2 end,
      jsonb_build_object('n', n), '{"a": 1}', now(), 20, 'out of ' || case when n > 7 then '100% ink' else 'paper' end,
      $1::timestamptz + n * interval '1 hour' from generate_series(1, 10) n`,
    [noon.toISOString(), odd],
  );
  await sql("insert into hark.dead (consumer, id, attempts) values ('s', 3, 1)");
  return noon;
}

test("dead letters are listed by every filter, page by page", async (context) => {
  const db = context.use(await connect(context.url));
  const noon = await tenDead(context);
  const ids = async (options: Parameters<typeof deadLetters>[1]) =>
    (await deadLetters(db, { consumer: "r", ...options })).map(({ id }) => id);
  const hour = (n: number) => new Date(noon.getTime() + n * 3_600_000);
  assert.deepEqual(await ids({}), range(1, 10));
  assert.deepEqual(await ids({ channel: "d" }), [2, 4, 6, 8, 10]);
  assert.deepEqual(await ids({ key: odd }), [1, 2, 3]);
  assert.deepEqual(await ids({ error: "0% i" }), [8, 9, 10]);
  assert.deepEqual(await ids({ error: "%" }), [8, 9, 10]);
  assert.deepEqual(await ids({ error: "PAPER" }), []);
  assert.deepEqual(await ids({ fromId: 3, toId: 5 }), [3, 4, 5]);
  assert.deepEqual(await ids({ diedAfter: hour(9) }), [9, 10]);
  assert.deepEqual(await ids({ diedBefore: hour(3) }), [1, 2]);
  assert.deepEqual(await ids({ ids: [7, 99, 2] }), [2, 7]);
  assert.deepEqual(await ids({ channel: "c", error: "paper", limit: 2 }), [1, 3]);
  assert.deepEqual(await ids({ after: 8 }), [9, 10]);
  const [, , third] = await deadLetters(db);
  assert.deepEqual({ ...third, createdAt: null }, {
    consumer: "r",
    id: 3,
    channel: "c",
    key: odd,
    payload: { n: 3 },
    headers: { a: 1 },
    createdAt: null,
    attempts: 20,
    error: "out of paper",
    diedAt: hour(3),
  });
  assert.deepEqual((await deadLetters(db, { ids: [3] })).map((one) => one.consumer), ["r", "s"]);
});

test("dead letters that are retried wait for a worker with their copy, in their partition", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await tenDead(context);
  await sql("delete from hark.log where id <> 3");
  const listener = await client();
  const nudged: unknown[] = [];
  listener.on("notification", ({ payload }) => nudged.push(payload));
  await listener.query("listen hark_control");
  assert.equal(await retry(db, "r", { ids: [2] }), 1);
  // It waits already: it is tried at once, and stays one.
  assert.equal(await retry(db, "r", { ids: [2, 99] }), 1);
  assert.equal(await retry(db, "r", { ids: [2], kind: "dead" }), 0);
  assert.equal(await retry(db, "r", { error: "ink" }), 3);
  const waiting = await sql(
    `select id::int, partition = hark.partition_of(key, id, 4) as placed, state, attempts,
      due_at <= now() as due, channel, payload from hark.waiting order by id`,
  );
  assert.deepEqual(waiting[0], {
    id: 2,
    placed: true,
    state: "retry",
    attempts: 0,
    due: true,
    channel: "d",
    payload: { n: 2 },
  });
  assert.deepEqual(waiting.map(({ id }) => id), [2, 8, 9, 10]);
  assert.deepEqual(await sql("select changes::int from hark.consumers where name = 'r'"), [{
    changes: 3,
  }]);
  assert(nudged.length > 0 && nudged.every((name) => name === "r"));
  assert.equal(await retry(db, "r", { all: true, kind: "dead" }), 6);
  assert.deepEqual(await deadLetters(db, { consumer: "r" }), []);
  // Nothing is left of this one but its id, and the log has it.
  assert.equal(await retry(db, "s", { all: true }), 1);
  assert.equal(
    (await sql("select channel from hark.waiting where consumer = 's'"))[0].channel,
    "c",
  );
  await sql("insert into hark.dead (consumer, id, attempts) values ('s', 4, 1)");
  assert.equal(await retry(db, "s", { all: true, kind: "dead" }), 0);
  assert.equal((await deadLetters(db, { consumer: "s" })).length, 1);
});

/** 12,000 dead letters of "r", and 6,000 of its notifications that wait for an hour. */
async function thousands({ sql }: TestContext): Promise<void> {
  await sql("select hark.register('r', array['c'], partitions => 4)");
  await sql(`insert into hark.waiting (consumer, id, partition, state, attempts, due_at)
    select 'r', n, n % 4, 'failed', 1, now() + interval '1 hour' from generate_series(1, 6000) n`);
  await sql(`insert into hark.dead (consumer, id, channel, payload, attempts)
    select 'r', n, 'c', to_jsonb(n), 1 from generate_series(10001, 22000) n`);
}

for (const [change, done] of [[retry, "retried"], [discard, "discarded"]] as const) {
  test(`thousands are ${done} in steps, each a transaction, and another call goes on after one that ended`, async (context) => {
    const { sql, use, url } = context;
    const db = use(await connect(url));
    await thousands(context);
    const counts: number[] = [];
    const due = "select count(*)::int as n from hark.waiting where due_at <= now()";
    const left = async () => [
      (await sql(change === retry ? due : "select count(*)::int as n from hark.waiting"))[0].n,
      (await sql("select count(*)::int as n from hark.dead"))[0].n,
    ];
    // What is seen here, in another session, is committed.
    const seen: number[][] = [];
    const stop = new AbortController();
    const onProgress = async (count: number) => {
      counts.push(count);
      seen.push(await left());
      if (count === 11_000) stop.abort();
    };
    const first = await change(db, "r", { all: true }, { onProgress, signal: stop.signal });
    assert.deepEqual([first, counts], [11_000, [5000, 6000, 11_000]]);
    assert.deepEqual(
      seen,
      change === retry
        ? [[5000, 12_000], [6000, 12_000], [11_000, 7000]]
        : [[1000, 12_000], [0, 12_000], [0, 7000]],
    );
    // Without a worker the first 6,000 still wait, and are asked for once more.
    assert.equal(await change(db, "r", { all: true, kind: "dead" }), 7000);
    assert.deepEqual(await left(), [change === retry ? 18_000 : 0, 0]);
  });

  test(`if a step fails, the error says how many are ${done}`, async (context) => {
    const { use, url } = context;
    const db = use(await connect(url));
    await thousands(context);
    let steps = 0;
    const failing: Queryable = {
      query(text, values) {
        if (!text.includes("_page(") || ++steps < 3) return db.query(text, values);
        return db.query("select 1 / 0");
      },
    };
    await assert.rejects(change(failing, "r", { all: true }), {
      code: "DATABASE",
      message: new RegExp(`^6,000 notifications are ${done}, and the next .* division by zero`),
    });
  });
}

test("a page ends with the dead letter that passes its bytes", async ({ sql }) => {
  await sql("select hark.register('r', array['c'])");
  await sql(`insert into hark.dead (consumer, id, channel, payload, attempts)
    select 'r', n, 'c', to_jsonb(repeat(n::text, 1000)), 1 from generate_series(1, 5) n`);
  const page = (from: number) =>
    sql(
      `select retried::int, through_id::int from hark.retry_page('r', null, null, null, null, $1, null, null,
        null, 'dead', 3, 1)`,
      [from],
    );
  assert.deepEqual(await page(1), [{ retried: 1, through_id: 1 }]);
  assert.deepEqual(await page(5), [{ retried: 1, through_id: null }]);
  const [all] = await sql("select hark.retry('r')::int as n");
  assert.equal(all.n, 5);
});

test("dead letters are discarded: one, some or all", async (context) => {
  const db = context.use(await connect(context.url));
  await tenDead(context);
  assert.equal(await discard(db, "r", { ids: [1] }), 1);
  assert.equal(await discard(db, "r", { channel: "d", error: "paper" }), 3);
  assert.equal(await discard(db, "r", { all: true }), 6);
  assert.equal(await discard(db, "r", { all: true }), 0);
  assert.equal((await deadLetters(db)).length, 1);
});

test("wrong filters, no filter, and an unknown consumer are refused, and change nothing", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  await tenDead(context);
  const refused = { name: "HarkError", code: "BAD_OPTION" };
  for (
    const which of [
      undefined,
      null,
      {},
      { ids: [] },
      { ids: 5 },
      { ids: [0] },
      { ids: ["1"] },
      { ids: [null] },
      { ids: [1], all: true },
      { all: false },
      { all: 1 },
      { key: 5 },
      { error: "\0" },
      { error: "" },
      { fromId: "1" },
      { diedBefore: "2026-01-01" },
      { diedAfter: new Date(NaN) },
      { limit: 5 },
      { all: true, kind: "behind" },
      { kind: "dead" },
      { kind: "waiting", diedAfter: new Date() },
      { colour: "red" },
    ]
  ) {
    for (const change of [retry, discard]) {
      await assert.rejects(change(db, "r", which as never), refused, JSON.stringify(which));
    }
  }
  await assert.rejects(discard(db, "r", { channel: "" }), { code: "BAD_CHANNEL" });
  for (const options of [{ limit: 0 }, { after: 3 }, { consumer: "" }, { after: -1 }]) {
    await assert.rejects(deadLetters(db, options), refused, JSON.stringify(options));
  }
  await assert.rejects(deadLetters(db, { consumer: "unknown" }), { code: "NO_CONSUMER" });
  await assert.rejects(retry(db, "unknown", { all: true }), { code: "NO_CONSUMER" });
  await assert.rejects(discard(db, odd, { all: true }), { code: "NO_CONSUMER" });
  assert.equal((await sql("select count(*)::int as n from hark.dead"))[0].n, 11);
  // An empty list of ids fits none, rather than all.
  assert.equal((await sql("select hark.discard('r', '{}')::int as n"))[0].n, 0);
  for (
    const call of [
      "hark.retry('r', max_rows => 0)",
      // A script whose variable is not set means no dead letter, rather than all.
      "hark.retry('r', error => '')",
      "hark.discard('r', error => '')",
      "hark.dead_count('r', error => '')",
      "hark.dead_letters('r', error => '')",
      "hark.delete_notifications('a ticket', search => '')",
    ]
  ) await assert.rejects(sql(`select ${call}`), { code: "HK006" }, call);
  assert.equal((await sql("select hark.discard('r')::int as n"))[0].n, 10);
});

test(
  "a payload that cannot be written out is listed without it",
  { timeout: 120_000 },
  async (context) => {
    const { sql, use, url } = context;
    const db = use(await connect(url, { queryTimeout: patient(30_000) }));
    await sql("select hark.register('r', array['c'])");
    await sql(`insert into hark.dead (consumer, id, channel, payload, attempts)
    select 'r', 1, 'c', to_jsonb(repeat('x', 1000000)), 1`);
    const [one] = await deadLetters(db, { consumer: "r" });
    assert.equal((one?.payload as string).length, 1_000_000);
    await sql(`insert into hark.dead (consumer, id, channel, payload, attempts)
    select 'r', 2, 'c', to_jsonb(repeat(U&'\\0001', 45000000)), 1`);
    const [two] = await deadLetters(db, { consumer: "r", ids: [2] });
    assert.deepEqual([two?.payload, two?.channel], [null, "c"]);
  },
);

test("dead letters whose error has no text are a group without a text to retry by", async ({ sql, use, url }) => {
  await sql("select hark.register('r', array['c'])");
  await sql(`insert into hark.dead (consumer, id, channel, attempts, error)
    values ('r', 1, 'c', 1, ''), ('r', 2, 'c', 1, null), ('r', 3, 'c', 1, E'\\nat line 5')`);
  const groups = await deadGroups(use(await connect(url)));
  assert.deepEqual(groups.map(({ error, count }) => [error, count]), [[null, 3]]);
});
