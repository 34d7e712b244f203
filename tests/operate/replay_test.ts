import assert from "node:assert/strict";
import { cleanup, connect, Consumer, consumerDetails, replay } from "../../mod.ts";
import { test, type TestContext } from "../harness/mod.ts";
import { ByHand, odd, range } from "./_support/by_hand.ts";

async function handled({ sql, client }: TestContext): Promise<void> {
  await sql("select hark.register('r', array['c', 'd'])");
  await sql(
    "select hark.notify(case when n % 2 = 0 then 'd' else 'c' end) from generate_series(1, 10) n",
  );
  assert.equal((await new ByHand(await client(), "r", ["c", "d"]).drain()).length, 10);
}

/** What the workers of "r" would be given of its replays. */
async function fed({ sql }: TestContext): Promise<number[]> {
  while ((await sql("select hark.move_replays('r', 3) as n"))[0].n > 0);
  const rows = await sql("delete from hark.waiting where consumer = 'r' returning id::int, state");
  assert(rows.every(({ state }) => state === "replay"));
  return rows.map(({ id }) => id).sort((a, b) => a - b);
}

test("a replay brings a range of ids once more, of all channels or of some", async (context) => {
  const db = context.use(await connect(context.url));
  await handled(context);
  const first = await replay(db, "r", { from: 3, to: 8 });
  const [found] = (await consumerDetails(db, "r")).replayList;
  assert.deepEqual(found, { replay: first?.number, channels: null, nextId: 3, toId: 8 });
  assert.deepEqual({ count: first?.count, capped: first?.capped }, { count: 6, capped: false });
  assert.deepEqual(await fed(context), range(3, 8));
  assert.equal((await replay(db, "r", { from: 3, channels: "d" }))?.count, 4);
  assert.deepEqual(await fed(context), [4, 6, 8, 10]);
  await replay(db, "r", { from: 9, to: 1_000_000, channels: ["d", "c", "c"] });
  assert.deepEqual(await fed(context), [9, 10]);
  assert.deepEqual((await consumerDetails(db, "r")).replayList, []);
});

test("a replay by time brings what was published then", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  await handled(context);
  const noon = Date.UTC(2026, 0, 1, 12);
  await sql("update hark.log set created_at = $1::timestamptz + id * interval '1 hour'", [
    new Date(noon).toISOString(),
  ]);
  const hour = (n: number) => new Date(noon + n * 3_600_000);
  await replay(db, "r", { from: hour(2), to: hour(4) });
  assert.deepEqual(await fed(context), [2, 3, 4]);
  await replay(db, "r", { from: hour(8.5) });
  assert.deepEqual(await fed(context), [9, 10]);
  await replay(db, "r", { from: hour(-5), to: 2 });
  assert.deepEqual(await fed(context), [1, 2]);
  for (const [from, to] of [[-5, -1], [2.2, 2.8], [11, 12]] as const) {
    assert.equal(await replay(db, "r", { from: hour(from), to: hour(to) }), null);
  }
  assert.equal(await replay(db, "r", { from: hour(20) }), null);
  // Marks say where to look; one that is wrong by a minute does no harm.
  await sql(
    `insert into hark.marks select 1000 + n, gen_random_uuid(), $1::timestamptz + n * interval '1 hour', '1:1:', '1', 0, n,
    0, 0, '{}', '{}', '5', '-infinity' from generate_series(1, 10) n`,
    [new Date(noon).toISOString()],
  );
  await replay(db, "r", { from: hour(2), to: hour(4) });
  assert.deepEqual(await fed(context), [2, 3, 4]);
});

test("what the consumer has not passed comes once, in its turn", async (context) => {
  const { sql, use, url, client } = context;
  const db = use(await connect(url));
  await handled(context);
  await sql("select hark.notify('c') from generate_series(11, 12)");
  await replay(db, "r", { from: 10 });
  assert.deepEqual(await fed(context), [10]);
  assert.deepEqual(await new ByHand(await client(), "r", ["c", "d"]).drain(), [11, 12]);
});

test("cleanup keeps what is to be replayed", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  await handled(context);
  await replay(db, "r", { from: 3, to: 5 });
  for (const force of [false, true]) {
    const { keptFor } = await cleanup(db, { olderThan: new Date(Date.now() + 60_000), force });
    assert.deepEqual(keptFor[0]?.reasons, ["inactive", "replaying"]);
    assert.deepEqual((await sql("select id::int from hark.log order by id")).map(({ id }) => id), [
      ...[3, 4, 5],
    ]);
  }
  assert.deepEqual(await fed(context), [3, 4, 5]);
});

test("a range that is none, a channel that is not read, an unknown consumer: each is refused", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  await handled(context);
  await sql("select hark.register($1, array[$1])", [odd]);
  assert.equal((await replay(db, odd, { from: 1, channels: odd }))?.count, 0);
  const refused = { name: "HarkError", code: "BAD_OPTION" };
  for (
    const options of [
      undefined,
      null,
      {},
      { from: 0 },
      { from: 11 },
      { from: 1.5 },
      { from: "1" },
      { from: null },
      { from: new Date(NaN) },
      { from: 5, to: 4 },
      { from: 5, to: 0 },
      { from: new Date(2000), to: new Date(1000) },
      { from: 1, channels: "e" },
      { from: 1, channels: [] },
      { from: 1, until: 5 },
    ]
  ) {
    await assert.rejects(replay(db, "r", options as never), refused, JSON.stringify(options));
  }
  await assert.rejects(replay(db, "r", { from: 1, channels: "" }), { code: "BAD_CHANNEL" });
  await assert.rejects(replay(db, "unknown", { from: 1 }), { code: "NO_CONSUMER" });
  for (
    const call of [
      "hark.replay('r')",
      "hark.replay('r', 1, from_time => now())",
      "hark.replay('r', 1, 2, to_time => now())",
      "hark.replay('r', 1, 2, array[null])",
      "hark.replay('r', 1, 2, '{}')",
      "hark.replay('r', 1, -1)",
    ]
  ) {
    await assert.rejects(sql(`select ${call}`), { code: "HK006" }, call);
  }
});

test("a replay of what cleanup has removed is told to be one of nothing", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  const consumer = new Consumer(db, { id: "r", channels: ["c", "d"], handle() {} });
  await sql("select hark.notify('c', to_jsonb(i)) from generate_series(1, 5) i");
  await consumer.drain();
  await cleanup(db, { olderThan: 0 });
  await sql("select hark.notify('d', '6')");
  await consumer.drain();
  assert.equal(await replay(db, "r", { from: 1, to: 5 }), null);
  assert.deepEqual((await consumerDetails(db, "r")).replayList, []);
  assert.equal((await replay(db, "r", { from: 1 }))?.count, 1);
});
