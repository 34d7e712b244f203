/** Copies of marks, which positions refer to: whom keeping one holds up, and whose content it has. */

import assert from "node:assert/strict";
import { type Client, test, type TestContext, until } from "../harness/mod.ts";
import { cut, numberOf, RegisteredReader } from "./_support/reader.ts";

/** A consumer whose worker is about to store that it has read to the newest mark, which no position names yet. */
async function aboutToStore(context: TestContext): Promise<RegisteredReader> {
  const { sql, client } = context;
  const reader = await RegisteredReader.open(await client(), "r", ["c"]);
  await sql("select hark.notify('c')");
  await reader.page();
  reader.pass();
  await cut(reader.client); // closes the log: whatever is asked now stores no new mark
  reader.position = { ...reader.position, seen: await cut(reader.client) };
  return reader;
}

/** Waits until a session waits for a lock. */
async function waiting({ sql }: TestContext, client: Client): Promise<void> {
  const { processID } = client as unknown as { processID: number };
  await until(async () =>
    (await sql("select cardinality(pg_blocking_pids($1)) > 0 as waits", [processID]))[0]!.waits
  );
}

for (
  const [what, statement] of [
    ["a seek", "select hark.seek('r', 'now')"],
    ["a new definition", "select hark.register('r', array['c', 'd'], 'now', version => 1)"],
  ] as const
) {
  test(`${what} and an acknowledgement at the same mark do not lock each other out`, async (context) => {
    const reader = await aboutToStore(context);
    const { epoch, owner, client } = reader;
    await client.query("begin");
    // As an acknowledgement begins.
    await client.query(
      "select from hark.partitions where consumer = 'r' and epoch = $1 and owner = $2 for update",
      [epoch, owner],
    );
    const other = await context.client();
    const moved = other.query(statement).then(() => "moved", (error) => error.code);
    await waiting(context, other);
    await reader.acknowledge();
    await client.query("commit");
    assert.equal(await moved, "moved");
  });
}

test("marks are kept in the order of their numbers, so that no two sessions wait for each other", async (context) => {
  const { sql, client } = context;
  const marks: string[] = [];
  for (let n = 0; n < 2; n++) {
    await sql("select hark.notify('c')");
    marks.push((await sql("select hark.content_of(hark.cut()) as mark"))[0]!.mark);
  }
  const [first, last] = marks;
  const keep = "select hark.keep_marks(array(select unnest($1::text[])::hark.marks))";
  const holder = await client();
  await holder.query("begin");
  await holder.query(keep, [[first]]);
  const waits = await client();
  const kept = waits.query(keep, [[last, first]]).then(() => "kept", (error) => error.code);
  await waiting(context, waits);
  await holder.query("set local lock_timeout = '1s'");
  await holder.query(keep, [[last]]);
  await holder.query("commit");
  assert.equal(await kept, "kept");
});

test("a copy that has other content than the mark of its number is refused, not read from", async (context) => {
  const { sql } = context;
  const reader = await aboutToStore(context);
  const number = Number(numberOf(reader.position.seen));
  await sql(
    `insert into hark.kept_marks select $1, row($1, m.life, m.taken_at, '1000000:1000000:', '1000000', 0, 1000000,
       1000000, 1000000, '{}', '{}', m.fence, m.looked_at)::hark.marks from hark.newest_mark() m`,
    [number],
  );
  await assert.rejects(reader.acknowledge(), { code: "HK004" });
});

test("thinning takes a part at a time, so that the worker that does it reads on", async ({ sql }) => {
  await sql("select hark.notify('c')");
  await sql("select hark.cut()");
  await sql(
    `insert into hark.kept_marks
     select m.number + n, m from hark.newest_mark() m, generate_series(1, 2500) n`,
  );
  const left: number[] = [];
  for (let n = 0; n < 4; n++) {
    await sql("update hark.upkeep set thinned_at = '-infinity'");
    await sql("select hark.thin_marks()");
    left.push((await sql("select count(*)::int from hark.kept_marks"))[0]!.count);
  }
  assert.deepEqual(left, [1501, 501, 1, 1]);
  await sql(
    "insert into hark.kept_marks select m.number + n, m from hark.newest_mark() m, generate_series(1, 1001) n",
  );
  await sql("update hark.upkeep set thinned_at = '-infinity'");
  await sql("select hark.thin_marks()");
  const [{ soon }] = await sql(
    "select clock_timestamp() - thinned_at between '40 seconds' and '49 seconds' as soon from hark.upkeep",
  );
  assert.ok(soon, "and comes back soon for the rest");
});

test("a page is refused in a transaction whose snapshot may be older than the mark it reads to", async ({ sql, client }) => {
  const [{ seen }] = await sql("select hark.content_of(hark.cut()) as seen");
  const old = await client();
  await old.query("begin isolation level repeatable read");
  await old.query("select 1");
  await sql("select hark.notify('c')");
  const [{ target }] = await sql("select hark.content_of(hark.cut()) as target");
  const page = (session: Client) =>
    session.query(
      `select ids, window_end from hark.page($1::text::hark.marks, $2::text::hark.marks, null, 0, null, 10, 1000, 10,
         $2::text::hark.marks)`,
      [seen, target],
    );
  await assert.rejects(page(old), { code: "HK002" });
  await old.query("rollback");
  assert.deepEqual((await page(old)).rows, [{ ids: "1", window_end: true }]);
});

test("two processes that store for many consumers keep the marks of all in one order", async (context) => {
  const { sql, client } = context;
  const marks: string[] = [];
  for (let n = 0; n < 2; n++) {
    await sql("select hark.notify('c')");
    marks.push((await sql("select hark.content_of(hark.cut()) as mark"))[0]!.mark);
  }
  const [first, last] = marks;
  const readers: RegisteredReader[] = [];
  for (const name of ["a", "b"]) {
    readers.push(await RegisteredReader.open(await client(), name, ["c"]));
  }
  const parts = readers.map(({ consumer, owner, epoch }, n) => {
    const seen = [last, first][n]!;
    const list = [`{0}`, `{${epoch}}`, JSON.stringify([seen]), numberOf(seen), "", "0", "0"];
    return [consumer, owner, ...list, "{0}", "{t}", null];
  });
  const keep = "select hark.keep_marks(array(select unnest($1::text[])::hark.marks))";
  const holder = await client();
  await holder.query("begin");
  await holder.query(keep, [[first]]);
  const waits = await client();
  const stored = waits.query("select state from hark.acknowledge_all($1)", [JSON.stringify(parts)]);
  await waiting(context, waits);
  await holder.query("set local lock_timeout = '500ms'");
  const code = await holder.query(keep, [[last]]).then(() => "kept", (error) => error.code);
  await holder.query("rollback");
  assert.equal(code, "kept");
  assert.deepEqual((await stored).rows, [{ state: null }, { state: null }]);
});
