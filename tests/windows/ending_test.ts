import assert from "node:assert/strict";
import { type Client, test } from "../harness/mod.ts";

/** Publishes, waits a moment, commits; over and over until told to stop. */
async function publishSlowly(client: Client, stopped: () => boolean): Promise<void> {
  while (!stopped()) {
    await client.query("begin");
    await client.query("select hark.notify('slow')");
    await client.query("select pg_sleep(random() * 0.02)");
    await client.query("commit");
  }
}

/** Draws ids fast, so that a low that is raised by mistake lies above what it must not. */
async function publishFast(client: Client, stopped: () => boolean): Promise<void> {
  while (!stopped()) {
    await client.query(
      `select count(*) from hark.notify_many(
        (select json_agg(json_build_object('channel', 'fast')) from generate_series(1, 50)))`,
    );
  }
}

/**
 * Has lows raised while the writers run, and gives those that lie above a row of their transaction.
 * The snapshot is taken some rounds earlier than the look, so that many end in between.
 */
async function raisedTooHigh(client: Client, rounds: number): Promise<number> {
  await client.query("create temp table raised (xid xid8, low bigint)");
  for (let round = 0; round < rounds; round++) {
    await client.query(
      `do $$
        declare xids xid8[] := array(select pg_snapshot_xip(pg_current_snapshot()));
        begin
          for again in 1..20 loop
            insert into raised
            select t.xid, t.low
            from unnest(xids, hark.raise_lows(xids, array_fill(0::bigint, array[cardinality(xids)])))
              t (xid, low)
            where t.low > 0;
          end loop;
        end $$`,
    );
  }
  const { rows } = await client.query(
    `select count(*)::integer as count from raised r
      where exists (select from hark.log l where l.xid = r.xid and l.id <= r.low)`,
  );
  return rows[0].count;
}

test("a transaction that is ending is not taken for one that has published nothing", {
  timeout: 90_000,
}, async (context) => {
  let over = false;
  const stopped = () => over;
  const writers = await Promise.all(Array.from({ length: 12 }, () => context.client()));
  const fast = await context.client();
  const prober = await context.client();
  const running = [
    ...writers.map((writer) => publishSlowly(writer, stopped)),
    publishFast(fast, stopped),
  ];
  try {
    assert.equal(await raisedTooHigh(prober, 150), 0);
  } finally {
    over = true;
    await Promise.all(running);
  }
});
