/** Rows that were there before a table was watched are published while others go on writing. */

import assert from "node:assert/strict";
import { connect, Consumer } from "../../mod.ts";
import { random } from "../delivery/_support/publishers.ts";
import { type Client, test, type TestContext, until } from "../harness/mod.ts";
import { told, toldOf } from "./_support/kinds.ts";
import { type Payload, Rebuilt, text } from "./_support/rebuild.ts";

const rows = Number(Deno.env.get("HARK_BACKFILL_ROWS") ?? 20_000);

/** Publishes pages until nothing is left, or until `enough`; each page is a transaction. */
async function publishPages(
  client: Client,
  table: string,
  { batch = 1000, enough = Infinity } = {},
): Promise<{ total: number; done: boolean }> {
  for (;;) {
    const result = await client.query(
      "select total::int, done from hark.snapshot($1::regclass, batch => $2)",
      [table, batch],
    );
    const { total, done } = result.rows[0];
    if (done || total >= enough) return { total, done };
  }
}

/**
 * Changes rows that no other session changes, from the last key to the first, against the order in which they
 * are published: so a deadlock can be with the snapshot only.
 */
async function writeAgainst(client: Client, part: number, seed: number, over: () => boolean) {
  const dice = random(seed + part);
  const below = (n: number) => Math.floor(dice() * n);
  let transactions = 0;
  let far = 0;
  for (; !over(); transactions++) {
    const ids = Array.from({ length: 5 }, () => below(rows / 4) * 4 + part).sort((a, b) => b - a);
    await client.query("begin");
    for (const id of ids) {
      const what = [
        "update t set v = v + 1 where id = $1",
        "update t set v = v + 1, note = null where id = $1",
        "delete from t where id = $1",
        "insert into t values ($1, -1, 'new') on conflict (id) do update set note = 'again'",
        `update t set id = ${4 * (rows + far++) + part} where id = $1`,
        `update t set id = $1 where id = (select min(id) from t where id >= ${
          4 * rows
        } and id % 4 = ${part})
          and not exists (select from t where id = $1)`,
      ][below(6)]!;
      await client.query(what, [id]);
    }
    await client.query(below(8) === 0 ? "rollback" : "commit");
  }
  return transactions;
}

async function copied(context: TestContext, copy: Rebuilt): Promise<void> {
  const failures: unknown[] = [];
  const consumer = new Consumer<Payload>(context.use(await connect(context.url)), {
    id: "copy",
    channels: "t",
    from: "beginning",
    partitions: 1,
    concurrency: 1,
    maxAttempts: 1,
    handle: (n) => copy.apply(n),
    onDeadLetter: (error) => void failures.push(error),
  });
  await consumer.drain();
  assert.deepEqual(failures.slice(0, 3), []);
}

for (const payload of ["full", "diff"]) {
  test(
    `a table is published as it is while four write to it, killed in the middle: payload ${payload}`,
    { timeout: 60_000 + rows * 2 },
    async (context) => {
      const { sql, client } = context;
      const seed = Number(Deno.env.get("HARK_BACKFILL_SEED") ?? Math.floor(Math.random() * 1e6));
      await sql("create table t (id bigint primary key, v int, note text)");
      await sql("insert into t select n, 0, 'old' from generate_series(0, $1) n", [rows - 1]);
      await sql(
        "select hark.watch('t', channel => 't', snapshot => true, payload => $1)",
        [payload],
      );
      let over = false;
      const start = performance.now();
      const writers = Promise.all(
        [0, 1, 2, 3].map(async (part) =>
          await writeAgainst(await client(), part, seed, () => over)
        ),
      );
      writers.catch(() => {}); // awaited below
      const first = await client();
      await publishPages(first, "t", { enough: rows / 3 });
      const { rows: [{ pid }] } = await first.query("select pg_backend_pid() as pid");
      await first.query("begin; select hark.snapshot('t', batch => 5000)");
      await sql("select pg_terminate_backend($1, 10000)", [pid]);
      const { total, done } = await publishPages(await client(), "t");
      const seconds = (performance.now() - start) / 1000;
      over = true;
      const transactions = (await writers).reduce((a, b) => a + b);
      assert(done);
      const copy = new Rebuilt(true);
      await copied(context, copy);
      const found = await sql("select to_jsonb(t) as row from t");
      assert.deepEqual(copy.rows, found.map(({ row }) => text(row)).sort(), `seed ${seed}`);
      assert.equal(copy.counts.SNAPSHOT, total);
      console.log(
        `${total} rows published in ${seconds.toFixed(1)} s beside ${transactions} transactions; ` +
          `${(performance.now() - start).toFixed(0)} ms in all`,
      );
      const [watch] = await sql(
        "select snapshot_done_at is not null as done, snapshot_count::int as count from hark.watches()",
      );
      assert.deepEqual(watch, { done: true, count: total });
    },
  );
}

test("a row that another session holds is waited for, and holds up no writer that wants others of its page", async (context) => {
  const { sql } = context;
  await sql(
    "create table t (id int primary key, v int); insert into t select n, 0 from generate_series(1, 50) n",
  );
  await sql("select hark.watch('t', snapshot => true)");
  const writer = await context.client();
  await writer.query("begin; update t set v = 1 where id = 30");
  const publishing = publishPages(await context.client(), "t");
  // Against the order of the snapshot, with what it has locked already.
  for (let id = 29; id > 0; id--) await writer.query("update t set v = 1 where id = $1", [id]);
  await writer.query("commit");
  assert.deepEqual(await publishing, { total: 50, done: true });
  const copy = new Rebuilt(true);
  for (const { key, payload } of await toldOf(context)) copy.apply({ key, payload } as never);
  const found = await sql("select to_jsonb(t) as row from t");
  assert.deepEqual(copy.rows, found.map(({ row }) => text(row)).sort());
});

test("a table without a key is published at once, as it is when its watch begins", async (context) => {
  const { sql } = context;
  await sql("create table t (v int); insert into t values (1), (1), (null)");
  await sql("select hark.watch('t', snapshot => true)");
  await sql("insert into t values (2)");
  assert.deepEqual(await told(context), [
    'SNAPSHOT {"v":1}',
    'SNAPSHOT {"v":1}',
    "SNAPSHOT {}",
    'INSERT {"v":2}',
  ]);
  const client = await context.client();
  assert.deepEqual(await publishPages(client, "t"), { total: 3, done: true });
  await assert.rejects(sql("select hark.restart_snapshot('t')"), /has no key/);
  assert.deepEqual(await told(context), []);
});

test("writes that come while a table without a key begins to be watched are published once", async (context) => {
  const { sql } = context;
  await sql("create table t (v int); insert into t values (1)");
  const writer = await context.client();
  await writer.query("begin; insert into t values (2)");
  const watching = await context.client();
  const watched = watching.query("select hark.watch('t', snapshot => true)");
  await until(async () =>
    (await sql("select from pg_locks where not granted and relation = 't'::regclass")).length
  );
  await writer.query("commit");
  await watched;
  await writer.query("insert into t values (3)");
  assert.deepEqual(await told(context), ['SNAPSHOT {"v":1}', 'SNAPSHOT {"v":2}', 'INSERT {"v":3}']);
});

test("keys of several columns and of any type are paged through, each row once", async (context) => {
  const { sql } = context;
  const client = await context.client();
  await sql(`create type colour as enum ('red', 'green');
    create domain code as varchar(8);
    create table t (c colour, "K ey" code collate "C", at timestamptz, f float8, n numeric, d date, u uuid, v int,
      primary key (n, c, "K ey", at, f, d, u));
    insert into t select (array['red', 'green'])[1 + n % 2]::colour, 'k''"' || n % 5,
      '2026-01-01 12:00:00.123456+05:45'::timestamptz + n * interval '1 us', n / 3.0, (n % 3) / 7.0::numeric, '2026-01-01'::date + n,
      md5(n::text)::uuid, n from generate_series(1, 300) n`);
  await client.query(
    "set datestyle = 'SQL, DMY'; set timezone = 'Asia/Kathmandu'; set extra_float_digits = 0",
  );
  await client.query("select hark.watch('t', snapshot => true)");
  assert.equal((await publishPages(client, "t", { batch: 7 })).total, 300);
  const keys = (await toldOf(context)).map(({ key }) => key);
  assert.equal(new Set(keys).size, 300);
  assert.equal(keys.length, 300);
  await sql("select hark.restart_snapshot('t')");
  assert.equal((await publishPages(client, "t", { batch: 299 })).total, 300);
});

test("the rows of partitions and of tables that inherit are published with those of the table above", async (context) => {
  const { sql } = context;
  const client = await context.client();
  await sql(`create table p (id int primary key) partition by range (id);
    create table p1 partition of p for values from (0) to (100);
    create table p2 partition of p for values from (100) to (200);
    insert into p select n from generate_series(50, 149) n;
    create table a (id int primary key); create table b (more int) inherits (a);
    insert into a values (1); insert into b values (2, 2)`);
  await sql("select hark.watch('p', snapshot => true), hark.watch('a', snapshot => true)");
  await publishPages(client, "p", { batch: 9 });
  await publishPages(client, "a", { batch: 1 });
  const told = await toldOf(context);
  assert.deepEqual(
    told.filter(({ payload }) => payload.table === "p").map(({ payload }) => payload.id),
    Array.from({ length: 100 }, (_, n) => n + 50),
  );
  assert.deepEqual(
    told.filter(({ payload }) => payload.table === "a").map(({ payload }) => payload.new),
    [{ id: 1 }, { id: 2 }],
  );
});

test("a condition and excluded columns hold for the rows that were there, too", async (context) => {
  const { sql } = context;
  await sql(`create table t (id int primary key, open bool, secret text);
    insert into t select n, n % 2 = 0, 's' from generate_series(1, 10) n`);
  await sql(
    "select hark.watch('t', snapshot => true, exclude => '{secret}', condition => 'new.open')",
  );
  assert.equal((await publishPages(await context.client(), "t", { batch: 3 })).total, 5);
  assert.deepEqual((await told(context))[4], 'SNAPSHOT 10 {"id":10,"open":true}');
});
