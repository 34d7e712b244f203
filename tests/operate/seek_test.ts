import assert from "node:assert/strict";
import { connect, consumerDetails, deadLetters, notify, notifyMany, seek } from "../../mod.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { ByHand, odd, range } from "./_support/by_hand.ts";

/** A consumer of channel "c" that has handled notifications 1 to `count`. */
async function handled({ sql, client }: TestContext, count: number, partitions = 1): Promise<void> {
  await sql("select hark.register('r', array['c'], partitions => $1)", [partitions]);
  await sql("select hark.notify('c', to_jsonb(n), 'k' || n % 7) from generate_series(1, $1) n", [
    count,
  ]);
  assert.deepEqual(await new ByHand(await client(), "r").drain(), range(1, count));
}

test("after a seek everything from there on is delivered, and nothing before", async (context) => {
  const { url, use, client } = context;
  const db = use(await connect(url));
  await handled(context, 20, 3);
  const drain = async () => await new ByHand(await client(), "r").drain();
  assert.deepEqual(await drain(), []);
  assert.deepEqual(await seek(db, "r", { id: 12 }), { givenUp: 0 });
  assert.deepEqual(await drain(), range(12, 20));
  await seek(db, "r", "beginning");
  assert.deepEqual(await drain(), range(1, 20));
  await seek(db, "r", "beginning");
  await seek(db, "r", "now");
  assert.deepEqual(await drain(), []);
  await seek(db, "r", "beginning");
  await seek(db, "r", "end");
  await notify(db, "c", 21);
  assert.deepEqual(await drain(), [21]);
  await seek(db, "r", { id: 22 });
  assert.deepEqual(await drain(), []);
  await seek(db, "r", { time: new Date(0) });
  assert.deepEqual(await drain(), range(1, 21));
});

test("a seek to now leaves out what is committed, and not what commits later", async (context) => {
  const { url, use, client } = context;
  const db = use(await connect(url));
  await handled(context, 3);
  const late = await client();
  await late.query("begin");
  await late.query("select hark.notify('c', '\"late\"')");
  await notify(db, "c", "early");
  await seek(db, "r", "now");
  await late.query("commit");
  assert.deepEqual(await new ByHand(await client(), "r").drain(), [4]);
});

test("a seek fences off the worker that reads, and what it still sends changes nothing", async (context) => {
  const { url, use, client, sql } = context;
  const db = use(await connect(url));
  await handled(context, 10, 2);
  await notifyMany(db, range(11, 15).map((n) => ({ channel: "c", payload: n })));
  const worker = new ByHand(await client(), "r");
  await worker.claim();
  await worker.read();
  await seek(db, "r", { id: 8 });
  await assert.rejects(worker.acknowledge(), { code: "HK005" });
  await assert.rejects(worker.read(), { code: "HK005" });
  const [row] = await sql("select unread::int, owner from hark.status()");
  assert.deepEqual(row, { unread: 8, owner: null });
  await worker.claim();
  assert.deepEqual((await worker.read()).sort((a, b) => a - b), range(8, 15));
});

test("a seek waits for an acknowledgement under way, and neither is lost in a deadlock", async (context) => {
  const { url, use, client, sql } = context;
  const db = use(await connect(url));
  await handled(context, 10, 2);
  await notify(db, "c", 11, { key: "x" });
  const session = await client();
  const worker = new ByHand(session, "r");
  await worker.claim();
  const [id] = await worker.read();
  await session.query("begin");
  await worker.acknowledge();
  const seeking = seek(db, "r", "now");
  await until(async () =>
    // Only this database: a seek of another test on the same server may wait too.
    (await sql(
      "select from pg_stat_activity where datname = current_database() " +
        "and wait_event_type = 'Lock' and query ~ 'seek'",
    )).length > 0
  );
  // Refers to the consumer's row, which the seek has locked already.
  await session.query(
    `select hark.settle('r', json_build_array(json_build_object('kind', 'wait', 'id', $1::bigint,
      'partition', 0, 'state', 'failed', 'attempts', 1, 'error', 'out of paper')))`,
    [id],
  );
  await session.query("commit");
  assert.deepEqual(await seeking, { givenUp: 1 });
});

test("what waits and would not come again becomes a dead letter, the rest comes again", async (context) => {
  const { url, use, sql, client } = context;
  const db = use(await connect(url));
  await handled(context, 10);
  await sql(
    `insert into hark.waiting (consumer, id, partition, key, state, attempts, last_error)
    select 'r', n, 0, 'k', 'failed', n, 'out of paper' from unnest(array[2, 5, 8]) n`,
  );
  // One that the log has lost, with a copy; and one of a channel that is no longer read.
  await sql(
    `insert into hark.waiting (consumer, id, partition, state, channel, payload)
    values ('r', 1, 0, 'retry', 'c', '"copy"')`,
  );
  await sql("delete from hark.log where id = 1");
  await sql("select hark.notify('other')");
  await sql(
    "insert into hark.waiting (consumer, id, partition, state) values ('r', 11, 0, 'failed')",
  );
  await sql("insert into hark.replays (consumer, next_id, to_id) values ('r', 1, 5)");
  await sql("insert into hark.done (consumer, partition, id) values ('r', 0, 9)");
  assert.deepEqual(await seek(db, "r", { id: 5 }), { givenUp: 3 });
  const given = await deadLetters(db, { consumer: "r" });
  assert.deepEqual(
    given.map(({ id, attempts, error, payload }) => [id, attempts, error, payload]),
    [
      [1, 0, "given up by a seek", "copy"],
      [2, 2, "given up by a seek", 2],
      [11, 0, "given up by a seek", {}],
    ],
  );
  const { waiting, replays, replayList, heads } = await consumerDetails(db, "r");
  assert.deepEqual([waiting, replays, replayList, heads], [0, 0, [], []]);
  assert.deepEqual(await sql("select * from hark.done"), []);
  assert.deepEqual(await new ByHand(await client(), "r").drain(), range(5, 10));
});

test("a seek of a place that is none, of an unknown consumer, or inside a transaction is refused", async (context) => {
  const { url, use, sql } = context;
  const db = use(await connect(url));
  await handled(context, 5);
  await sql("select hark.register($1, array[$1])", [odd]);
  await seek(db, odd, "now");
  const refused = { name: "HarkError", code: "BAD_OPTION" };
  for (
    const to of [
      "yesterday",
      "",
      null,
      undefined,
      5,
      {},
      { id: 0 },
      { id: -1 },
      { id: 1.5 },
      { id: "5" },
      { id: 7 },
      { id: Number.MAX_SAFE_INTEGER },
      { time: "2026-01-01" },
      { time: new Date(NaN) },
      { id: 1, time: new Date() },
    ]
  ) {
    await assert.rejects(seek(db, "r", to as "now"), refused, JSON.stringify(to));
  }
  await assert.rejects(seek(db, "unknown", "now"), { code: "NO_CONSUMER", message: /"unknown"/ });
  for (const name of ["", null, 5, "x".repeat(201), "\0"]) {
    await assert.rejects(seek(db, name as string, "now"), refused, JSON.stringify(name));
  }
  await db.transaction(async (tx) => {
    await notify(tx, "c", 6);
    await assert.rejects(seek(tx, "r", "now"), { code: "IN_TRANSACTION" });
    throw new Error("roll back");
  }).catch((error) => assert.equal(error.message, "roll back"));
  for (
    const [call, code] of [
      ["hark.seek('r', 'somewhere')", "HK006"],
      ["hark.seek('r', null)", "HK006"],
      ["hark.seek('r', 'id')", "HK006"],
      ["hark.seek('r', 'now', 5)", "HK006"],
      ["hark.seek('r', 'id', 5, now())", "HK006"],
      ["hark.seek('r', 'time')", "HK006"],
      ["hark.seek(null, 'now')", "HK007"],
    ]
  ) {
    await assert.rejects(sql(`select ${call}`), { code }, call);
  }
});
