import assert from "node:assert/strict";
import { type Row, test, type TestContext, until } from "../harness/mod.ts";
import { RegisteredReader } from "../windows/_support/reader.ts";

/**
 * Reads on until the mark that "r" stands at lists no transaction but `own`. Others on the server would
 * have rows below what was read, as far as status can tell.
 */
async function settled({ sql }: TestContext, reader: RegisteredReader, own = "0"): Promise<void> {
  await until(async () => {
    await sql("select hark.notify('c')");
    await reader.drain();
    const others = await sql(
      `select from hark.partitions p join hark.kept_marks k on k.number = p.seen,
         unnest((k.mark).stragglers) x (xid) where x.xid <> $1::xid8`,
      [own],
    );
    return others.length === 0;
  }, { what: "a mark that lists no transaction of others" });
}

/** What status says about "r" if it looks at no more than 100 at once notifications. */
const look = "select unread, unread_capped from hark.status(1000, 60000, 100)";

test("a transaction that stays open does not hide what a consumer has still to read", async (context) => {
  const { sql, client } = context;
  const [reading, writing] = [await client(), await client()];
  const reader = await RegisteredReader.open(reading, "r", ["c"]);
  await writing.query("begin");
  await writing.query("select hark.notify('c')");
  await sql("select hark.notify('c') from generate_series(1, 500)");
  await reader.drain();
  const { rows: [own] } = await writing.query("select pg_current_xact_id()::text as xid");
  await settled(context, reader, own.xid);
  assert.deepEqual(await sql(look), [{ unread: "0", unread_capped: false }]);
  assert.deepEqual(await sql("select * from hark.holding()"), []);
  await sql("select hark.notify('c') from generate_series(1, 3)");
  assert.deepEqual(await sql(look), [{ unread: "3", unread_capped: false }]);
  await writing.query("commit");
  // It comes before 500 that are read: more than are looked at.
  assert.deepEqual(await sql(look), [{ unread: "4", unread_capped: true }]);
  const [held] = await sql(
    "select consumer, behind, oldest = (select min(created_at) from hark.log) as first from hark.holding()",
  );
  assert.deepEqual(held, { consumer: "r", behind: true, first: true });
  await settled(context, reader);
  assert.deepEqual(await sql(look), [{ unread: "0", unread_capped: false }]);
});

test("a backlog is counted from where a consumer is, also in the middle of a long window", async (context) => {
  const { sql, client } = context;
  await sql("select hark.notify('c') from generate_series(1, 400)");
  await sql("select hark.cut()"); // as the readers of a live log do all the time
  await sql("select hark.notify('c') from generate_series(1, 100)");
  // The mark that it stands at may list a transaction of others on the server. Then it begins anew.
  await until(async () => {
    const session = await client();
    await session.query("select hark.remove_consumer('r')").catch(() => {}); // the first time there is none
    const reader = await RegisteredReader.open(session, "r", ["c"], { kind: "beginning" }, {
      rows: 480,
    });
    await reader.step();
    const [{ unread, unread_capped }] = await sql(look);
    return unread === "20" && !unread_capped;
  });
  const [held] = await sql(
    "select oldest = (select created_at from hark.log where id = 481) as next from hark.holding()",
  );
  assert.equal(held?.next, true);
});

test("a consumer of a rare channel that is far behind is told as that old, though what it has to read was not found", async ({ sql }) => {
  await sql("select hark.register('r', array['rare'], 'beginning')");
  await sql("select hark.notify('often') from generate_series(1, 500)");
  await sql("select hark.notify('rare')");
  await sql("update hark.log set created_at = now() - interval '1 hour'");
  const status = "select unread, unread_capped, lag_seconds from hark.status(1000, 60000, $1)";
  const [near] = await sql(status, [100]);
  assert.deepEqual([near!.unread, near!.unread_capped], ["0", true]);
  assert.ok(near!.lag_seconds >= 3600, `${near!.lag_seconds}`);
  const [far] = await sql(status, [1000]);
  assert.deepEqual([far!.unread, far!.unread_capped], ["1", false]);
  // One that has read all has no lag, however much others publish.
  await sql("select hark.seek('r', 'now')");
  const [done] = await sql(status, [100]);
  assert.deepEqual([done!.unread, done!.lag_seconds], ["0", 0]);
});

test("the pace names the last id of each minute, whatever the minutes before and after had", async ({ sql }) => {
  const counts = [3, 0, 4000, 1, 0, 900, 2];
  let expected = 0;
  const ends: number[] = [];
  for (const count of counts) {
    await sql("select hark.notify('c') from generate_series(1, $1::integer)", [count]);
    ends.push(expected += count);
  }
  const minute = async () =>
    (await sql("select date_trunc('minute', clock_timestamp())::text as minute"))[0].minute;
  let [begun, pace]: [string, Row[]] = ["", []];
  // All of it within one minute of the clock. If the minute ends before the pace is known, it begins anew.
  do {
    begun = await minute();
    for (const [n, end] of ends.entries()) {
      // As if published in the middle of a minute: the one that ended so many minutes ago.
      await sql(
        `update hark.log set created_at = $1::timestamptz
          - make_interval(mins => $2::integer) + interval '30 seconds' where id > $3 and id <= $4`,
        [begun, counts.length - n, ends[n - 1] ?? 0, end],
      );
    }
    pace = await sql("select drawn from hark.pace(10)");
  } while (await minute() !== begun);
  // Before the first of them the log had nothing. The last row is now.
  assert.deepEqual(pace.map(({ drawn }) => Number(drawn)), [0, 0, 0, ...ends, expected]);
});
