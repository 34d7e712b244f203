import assert from "node:assert/strict";
import { connect, deadLetters } from "../../mod.ts";
import { output } from "../cli/_support/hark.ts";
import { test, until } from "../harness/mod.ts";
import { publish, Reading, Running } from "../faults/_support/running.ts";
import { UnregisteredReader } from "../windows/_support/reader.ts";

/** Publishes texts of a number of MiB that PostgreSQL stores in a hundredth. */
const large = (count: number, mebibytes: number) => `
  with payload as materialized (select to_jsonb(repeat('0123456789abcdef', ${mebibytes} * 65536)) as p)
  select count(hark.notify('c', p, 'large')) from payload, generate_series(1, ${count})`;

/** From here on, reading one notification takes the server so long. */
const slow = (seconds: number) => `
  alter function hark.contents(jsonb, jsonb) rename to contents_itself;
  create function hark.contents(
    payload jsonb, headers jsonb, out payload_text text, out headers_text text, out problem text
  ) language plpgsql as $$ begin
    perform pg_sleep(${seconds});
    select * into payload_text, headers_text, problem from hark.contents_itself($1, $2);
  end $$`;

test("a page unpacks no more than its bytes and one notification, however well they are compressed", async (context) => {
  await context.sql(large(12, 4));
  await publish(context, 1, 3);
  const [stored] = await context.sql(
    "select sum(pg_column_size(payload))::int as bytes from hark.log",
  );
  assert(stored.bytes < 1_000_000, "all of them would fit as stored");
  const reader = await UnregisteredReader.open(await context.client(), ["c"], undefined, {
    bytes: 8_000_000,
  });
  await context.sql(`alter function hark.contents(jsonb, jsonb) rename to contents_itself;
    create sequence hark.unpacked;
    create function hark.contents(
      payload jsonb, headers jsonb, out payload_text text, out headers_text text, out problem text
    ) language plpgsql as $$ begin
      perform nextval('hark.unpacked');
      select * into payload_text, headers_text, problem from hark.contents_itself($1, $2);
    end $$`);
  const sizes: number[] = [];
  for (let size; (size = (await reader.page()).rows.length) > 0;) sizes.push(size);
  assert.deepEqual(sizes, [2, 2, 2, 2, 2, 2, 3]);
  const [row] = await context.sql("select last_value::int as times from hark.unpacked");
  assert.equal(row.times, 12, "each large one was unpacked once");
});

test("notifications behind large ones that compress well arrive, to a consumer and a subscription", async (context) => {
  await context.sql(large(12, 8));
  await publish(context, 1, 3);
  const db = context.use(await connect(context.url));
  await using running = new Running(db, {});
  await using reading = new Reading(db, "c", { from: "beginning" });
  await until(() => running.inbox.items.length === 15 && reading.inbox.items.length === 15);
  assert.deepEqual(running.payloads.slice(12), [1, 2, 3]);
  assert.deepEqual(reading.payloads.slice(12), [1, 2, 3]);
});

test("a filter unpacks no more payloads for a page than its bytes as stored", async (context) => {
  await context.sql(large(12, 4));
  await publish(context, 1, 3);
  const [{ bytes }] = await context.sql(
    "select pg_column_size(payload) as bytes from hark.log limit 1",
  );
  await context.sql(
    `alter function hark.matches(jsonb, text, jsonb, jsonb) rename to matches_itself;
    create sequence hark.compared;
    create function hark.matches(filter jsonb, key text, payload jsonb, headers jsonb) returns boolean
    language sql as $$
      select hark.matches_itself($1, $2, $3, $4) from nextval('hark.compared')
    $$`,
  );
  const page = `select g.ids, g.window_end, currval('hark.compared')::int as compared
    from hark.marks z, hark.newest_mark() m,
    hark.page(z, m, null, 0, '{c}', 500, $1, 20000, null, '{"payload": 2}') g where z.number = 0`;
  await context.sql("select hark.cut()");
  const [first] = await context.sql(page, [3 * bytes]);
  assert.deepEqual([first.ids, first.window_end, first.compared], [null, false, 3]);
  const [whole] = await context.sql(page, [100 * bytes]);
  assert.deepEqual([whole.ids, whole.window_end], ["14", true]);
});

test("a reader whose page times out asks for less, and one notification that takes long is still read", async (context) => {
  await publish(context, 1, 4);
  await context.sql("update hark.log set headers = jsonb_build_object('h', repeat('x', 100000))");
  await context.sql(slow(1.4));
  // One takes longer than the timeout. A page ends after a second.
  const db = context.use(await connect(context.url, { readerTimeout: 1200 }));
  await using running = new Running(db, { pageSize: 8 });
  await using reading = new Reading(db, "c", { from: "beginning", pageSize: 8 });
  await until(() => running.payloads.includes(4) && reading.payloads.includes(4));
  assert.deepEqual(running.payloads, [1, 2, 3, 4]);
  assert.deepEqual(reading.payloads, [1, 2, 3, 4]);
});

test("waiting notifications that take long to read are retried one by one", async (context) => {
  await publish(context, 1, 4);
  const failed = new Set<unknown>();
  const options = {
    retry: { initial: 1 },
    handle: ({ payload }: { payload: number }) => {
      if (failed.has(payload)) return;
      failed.add(payload);
      throw new Error("the first time");
    },
  };
  const db = context.use(await connect(context.url, { readerTimeout: 1200 }));
  {
    await using first = new Running(db, { ...options, retry: { initial: 600_000 } });
    await until(async () => (await context.sql("select from hark.waiting")).length === 4);
    assert.equal(first.inbox.items.length, 4);
  }
  await context.sql("update hark.waiting set due_at = now()");
  await context.sql(slow(1.4));
  await using running = new Running(db, options);
  await until(() => running.inbox.items.length === 4);
  assert.deepEqual(running.payloads.toSorted(), [1, 2, 3, 4]);
});

test("a replay with a filter looks at a bounded part of large payloads at a time", async (context) => {
  await context.sql(large(4, 1));
  await publish(context, 1, 2);
  // As if they were stored in megabytes.
  await context.sql("alter table hark.log_0 alter payload set storage external");
  await context.sql("update hark.log set payload = to_jsonb(repeat('ab', 2500000)) where id <= 4");
  await context.sql(`select hark.register('c', '{c}', 'now', filter => '{"payload": 2}')`);
  await context.sql("select hark.replay('c', 1)");
  const looked: number[] = [];
  for (let n; (n = (await context.sql("select hark.move_replays('c') as n"))[0].n) > 0;) {
    looked.push(n);
  }
  assert.deepEqual(looked, [2, 2, 2]);
  assert.deepEqual(await context.sql("select id::int from hark.waiting"), [{ id: 6 }]);
});

test("due notifications move into the log by a bounded number of bytes, all of them", async (context) => {
  await context.sql("alter table hark.delayed alter payload set storage external");
  await context.sql(
    `select hark.notify_at('c', to_jsonb(repeat('ab', 8000000)), deliver_at => now() + interval '1 hour')
    from generate_series(1, 5)`,
  );
  await context.sql("update hark.delayed set deliver_at = now()");
  const moved: number[] = [];
  for (let row; (row = (await context.sql("select * from hark.deliver_due()"))[0]).moved > 0;) {
    moved.push(row.moved);
    assert.equal(row.next_ms === null || row.next_ms <= 0, true, "more is due at once");
  }
  assert.deepEqual(moved, [3, 2]);
});

test("a list of large dead letters need not read them", async (context) => {
  await context.sql(large(3, 4));
  await context.sql("select hark.register('c', '{c}')");
  await context.sql(
    `insert into hark.dead (consumer, id, channel, payload, headers, attempts)
    select 'c', l.id, l.channel, l.payload, '{"h": 1}', 1 from hark.log l`,
  );
  await context.sql(slow(60)); // reading one of them fails the test by its deadline
  const db = context.use(await connect(context.url));
  const found = await deadLetters(db, { contents: false });
  assert.deepEqual(found.map((one) => [one.id, one.payload, one.headers]), [
    [1, null, {}],
    [2, null, {}],
    [3, null, {}],
  ]);
  assert.match(await output(["dead", "list"], { url: context.url }), /^c +3 +c/m);
});
