/** The gates: what readers that sleep cost publishers on other channels. */

import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { Reading, Running } from "../faults/_support/running.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { asleep, Ears, RARELY } from "./_support/sleeping.ts";

/** How many gates are open, each counted once for each of its bits. The front gate has the bits of all. */
async function openBits({ sql }: Pick<TestContext, "sql">): Promise<number> {
  const [row] = await sql(
    `select sum(length(replace(v::bit(64)::text, '0', '')))::int as open, bit_or(v)::text as all,
       coalesce(pg_sequence_last_value('hark.front_gate'), 0)::text as front
     from unnest(hark.gates()) g cross join coalesce(pg_sequence_last_value(g), 0) v`,
  );
  assert.equal(row.front, row.all);
  return row.open;
}

/** How many of these channels have an open gate. */
async function openAmong({ sql }: TestContext, names: readonly string[]): Promise<number> {
  const [row] = await sql(
    `select count(*) filter (where hark.is_front_gate_open(n) and hark.is_gate_open(n))::int as open
     from unnest($1::text[]) n`,
    [names],
  );
  return row.open;
}

/** Names of channels, some of them long, some of no Latin letters. */
const many = (count: number, what: string) =>
  Array.from(
    { length: count },
    (_, n) => `${what}${n}${["", "\u00fc\u{1f600}", "x".repeat(150)][n % 3]}`,
  );

test("100 sleepers on 100 channels leave the gates of nearly all others shut", async (context) => {
  const { sql } = context;
  const own = many(100, "a channel ");
  await sql(
    "select hark.sleep(gen_random_uuid(), array[n], null, 60000) from unnest($1::text[]) n",
    [own],
  );
  assert.equal(await openAmong(context, own), 100);
  // 2.4 % are expected; the names are the same in every run.
  const open = await openAmong(context, many(2000, "another one "));
  assert(open < 100, `${open} of 2,000`);
  const ears = await Ears.open(await context.client());
  await sql("select hark.notify(n) from unnest($1::text[]) n", [many(2000, "another one ")]);
  assert.deepEqual(await ears.soFar(), []);
  await sql("select hark.notify(n) from unnest($1::text[]) n", [own]);
  assert.deepEqual((await ears.soFar()).sort(), own.toSorted());
});

test("a gate is shut when the last sleeper of its channels has woken, not before", async (context) => {
  const { sql } = context;
  const [a, b] = [1, 2].map((n) => `00000000-0000-0000-0000-00000000000${n}`);
  await sql("select hark.sleep($1, array['c', 'd'], null, 60000)", [a]);
  await sql("select hark.sleep($1, array['d', 'e'], null, 60000)", [b]);
  assert.equal(await openBits(context), 3);
  await sql("select hark.wake_up($1)", [a]);
  assert.equal(await openBits(context), 3);
  await sql("select hark.shut_gates()");
  assert.equal(await openBits(context), 2);
  assert.equal(await openAmong(context, ["d", "e"]), 2);
  await sql("select hark.wake_up($1)", [b]);
  await sql("begin; select pg_current_xact_id(); select hark.shut_gates(); commit");
  assert.equal(await openBits(context), 2, "a transaction that may roll back shuts nothing");
  await sql("select hark.shut_gates()");
  assert.equal(await openBits(context), 0);
});

test("a subscription to all channels opens no gate, and is given all the same", async (context) => {
  const db = context.use(await connect(context.url));
  let ready = false;
  const onReady = () => void (ready = true);
  const reading = context.use(new Reading(db, null, { pollInterval: RARELY, onReady }));
  await until(() => ready);
  for (let n = 1; n <= 5; n++) {
    await context.sql("select hark.notify('c' || $1::text)", [n]);
    await reading.inbox.atLeast(n);
  }
  assert.equal(await openBits(context), 0);
  assert.deepEqual(await context.sql("select from hark.sleepers"), []);
});

test("the gates of consumers are shut once they have stopped", async (context) => {
  const db = context.use(await connect(context.url));
  const running = ["a", "b"].map((id) =>
    context.use(new Running(db, { id, channels: ["c", id], pollInterval: RARELY }))
  );
  await asleep(context, 2);
  assert.equal(await openBits(context), 3);
  for (const one of running) await one.stop();
  assert.equal(await openBits(context), 0);
});
