/** When a mark is stored and when not, who can keep others from cutting, and which marks stay. */

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { connect, Consumer } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { cut, numberOf, RegisteredReader, UnregisteredReader } from "./_support/reader.ts";
import { type Lab, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

async function marks(lab: Lab): Promise<number> {
  return Number((await lab.sql("select count(*) from hark.marks"))[0].count);
}

const inNoList: Staging = {
  promise:
    "a transaction that drew the last id before any reader looked is noticed when it commits, though no publisher follows",
  breaks: [{
    rule: "when a mark need not be settled to be the last",
    in: "hark.new_mark",
    from: "and last.floor = last.max_id and last.life",
    to: "and last.life",
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    const stuck = await lab.writer();
    await stuck.notify(); // nothing younger has ended: no snapshot lists it
    await reader.window();
    await stuck.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const listed: Staging = {
  promise: "so is one that a mark lists as running",
  breaks: [{
    rule: "when it is not asked whether one of them has ended",
    in: "hark.new_mark",
    from: "if last.low = last.max_id or not exists (",
    to: "if true or last.low = last.max_id or not exists (",
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    const late = await lab.writer();
    await late.notify();
    await lab.publish(1);
    for (let n = 0; n < 4; n++) await reader.window();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const silent: Staging = {
  promise: "a log that falls silent gets one closing mark and then none, whatever others do",
  breaks: [{
    rule: "when any transaction that ends is a reason for one",
    in: "hark.new_mark",
    from: "where t.low < last.max_id and pg_visible_in_snapshot(t.xid, m.snapshot)",
    to: "where t.low <= last.max_id and pg_visible_in_snapshot(t.xid, m.snapshot)",
    also: { from: "if last.low = last.max_id or not exists (", to: "if not exists (" },
  }],
  stage: async (lab) => {
    const client = await lab.client();
    await cut(client);
    await lab.publish(1);
    const before = await marks(lab);
    await cut(client);
    const foreign = await lab.writer();
    await foreign.number();
    await lab.sql("select pg_current_xact_id()"); // younger, and over: the closing mark lists the other
    for (let n = 0; n < 5; n++) await cut(client);
    assert.equal(await marks(lab), before + 2, "one for what was published, and the closing one");
    await foreign.commit();
    for (let n = 0; n < 20; n++) {
      const other = await lab.writer();
      await other.number();
      await cut(client);
      await other.rollback();
      await cut(client);
    }
    assert.equal(await marks(lab), before + 2);
  },
};

const stalled: Staging = {
  promise:
    "who stays in a transaction after a cut, or holds its lock for ever, keeps no reader waiting",
  breaks: [{
    rule: "when the lock has to be had",
    in: "hark.new_mark",
    from: "exit when not polite or tries = 5 or pg_try_advisory_xact_lock(5237, 16);",
    to: "perform pg_advisory_xact_lock(5237, 16); exit;",
  }],
  stage: async (lab) => {
    const stays = await lab.client();
    await lab.publish(1);
    await stays.query("begin");
    await cut(stays);
    const holds = await lab.client();
    await holds.query("begin; set local statement_timeout = '1s'");
    await holds.query("select pg_advisory_xact_lock(5237, 16)").catch(() => {}); // another may have it
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    await reader.client.query("set statement_timeout = '5s'");
    const code = await reader.drain().then(() => undefined, (error) => error.code);
    assert.equal(code, undefined);
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const durable: Staging = {
  promise: "a cut in a transaction that goes on leaves that transaction's commit to be waited for",
  breaks: [{
    rule: "when it does not look whether it is alone",
    in: "hark.cut",
    from: "if transaction_timestamp() = statement_timestamp() then",
    to: "if true then",
  }],
  stage: async (lab) => {
    const client = await lab.client();
    await lab.publish(1);
    await client.query("begin");
    await client.query("select 1");
    await cut(client);
    const { rows: [{ how }] } = await client.query(
      "select current_setting('synchronous_commit') as how",
    );
    await client.query("rollback");
    assert.equal(how, "on");
  },
};

/** Has all marks so old that those that may be thinned are. */
async function thin(lab: Lab): Promise<void> {
  await lab.sql("update hark.marks set taken_at = taken_at - interval '1 day' where number > 0");
  for (let n = 0; n < 12; n++) {
    await lab.publish(1, "other");
    await lab.sql("select hark.cut()");
  }
  await lab.sql("select hark.thin_marks('0')");
}

const thinned: Staging = {
  promise: "readers whose marks were thinned read on, and store where they are",
  breaks: [{
    rule: "when only a mark of the chain is kept for a position",
    in: "hark.keep_marks",
    from: "if not hark.survives(m) then",
    to: "if not exists (select from hark.marks k where k.number = m.number) then",
  }],
  stage: async (lab) => {
    await lab.publish(6);
    await lab.sql("select hark.cut()");
    const registered = await RegisteredReader.open(await lab.client(), "r", ["c"], undefined, {
      rows: 2,
    });
    const unregistered = await UnregisteredReader.open(await lab.client(), ["c"], undefined, {
      rows: 2,
    });
    for (const reader of [registered, unregistered]) await reader.page();
    await thin(lab);
    const [{ count }] = await lab.sql("select count(*) from hark.marks where number = $1", [
      numberOf(registered.position.target!),
    ]);
    assert.equal(Number(count), 0);
    const code = await registered.acknowledge(2).then(() => undefined, (error) => error.code);
    assert.equal(code, undefined);
    for (const reader of [registered, unregistered]) {
      await reader.drain();
      await assertExactlyOnce(reader.client, reader.delivered, ["c"]);
    }
  },
};

const kept: Staging = {
  promise: "a mark that a position refers to stays, by a foreign key",
  stage: async (lab) => {
    await lab.publish(6);
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"], undefined, {
      rows: 2,
    });
    await reader.page();
    await reader.acknowledge(2);
    const number = numberOf(reader.position.target!);
    await thin(lab);
    await assert.rejects(lab.sql("delete from hark.kept_marks where number = $1", [number]), {
      code: "23503",
    });
    await reader.restart();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered, ["c"]);
  },
};

const spacing: Staging = {
  promise: "all marks of the last minute stay, then one a second, then one a minute",
  stage: async (lab) => {
    await lab.sql(
      `insert into hark.marks
       select 1000 + n, gen_random_uuid(), now() - n * interval '1 second' / 4, '5:5:', (100000 - n)::text::xid8, 0, 1, 1, 1,
         '{}', '{}', '5', '-infinity' from generate_series(1, 40000) n`,
    );
    await lab.sql(
      "update hark.marks set life = (select id from hark.incarnation) where number > 0",
    );
    for (let removed = 1; removed > 0;) {
      await lab.sql("update hark.upkeep set thinned_at = '-infinity'");
      removed = Number((await lab.sql("select hark.thin_marks() as removed"))[0]!.removed);
    }
    const [row] = await lab.sql(
      `select count(*) filter (where age <= interval '1 minute')::int as minute,
         count(*) filter (where age > interval '61 seconds' and age <= interval '59 minutes')::int as hour,
         count(*) filter (where age > interval '61 minutes')::int as rest,
         extract(epoch from min(age))::float8 as youngest
       from (select now() - taken_at as age from hark.marks where number > 1000) m`,
    );
    const most = Math.max(0, 4 * (60 - row.youngest));
    assert.ok(Math.abs(row.minute - most) <= 4, `${row.minute} of ${most} of the last minute`);
    assert.ok(row.hour >= 3400 && row.hour <= 3560, `${row.hour} of the hour`);
    assert.ok(row.rest >= 100 && row.rest <= 112, `${row.rest} of the rest`);
    assert.deepEqual(await lab.sql("select hark.thin_marks() as removed"), [{ removed: "0" }]);
  },
};

stagings("marks are cut by need, and thinned", [
  inNoList,
  listed,
  silent,
  stalled,
  durable,
  thinned,
  kept,
  spacing,
]);

const everything = "select * from hark.clean(now() + interval '1 hour')";

test("a consumer that no worker serves holds back nothing that is not its own", async ({ sql }) => {
  await sql("select hark.register('idle', array['a'], partitions => 3)");
  await sql("select hark.register('filtered', array['b'], filter => '{\"payload\": \"never\"}')");
  await sql("select hark.notify('b') from generate_series(1, 500)");
  await sql("select hark.cut()");
  await sql(everything);
  assert.deepEqual(await sql("select count(*)::int from hark.log"), [{ count: 0 }]);
  await sql("select hark.notify('b') from generate_series(1, 500)");
  await sql("select hark.notify('a', '1', 'k')");
  await sql("select hark.notify('b') from generate_series(1, 500)");
  await sql("select hark.cut()");
  await sql(everything);
  const [{ first, unread }] = await sql(
    `select (select channel from hark.log order by id limit 1) as first,
       (select unread::int from hark.status() where consumer = 'idle') as unread`,
  );
  assert.deepEqual([first, unread], ["a", 1], "what is unread stays");
});

test("a worker whose consumer reads nothing of its own holds back nothing either", async (context) => {
  const { sql, use, url } = context;
  const db = use(await connect(url));
  const consumer = new Consumer(db, { id: "idle", channels: "a", handle() {}, pollInterval: 200 });
  const running = consumer.run();
  await until(async () => (await sql("select workers from hark.status()"))[0]?.workers === 1);
  await sql("select hark.notify('b') from generate_series(1, 500)");
  await until(async () => {
    await sql(everything);
    return (await sql("select count(*)::int from hark.log"))[0].count === 0;
  }, { deadline: 20_000 });
  await consumer.stop();
  await running;
});

test("an idle consumer stores nothing, and cuts no mark while nothing is published", async (context) => {
  const { sql, use, url, database } = context;
  await sql(`alter database ${database} set track_functions = 'pl'`);
  const db = use(await connect(url));
  await sql("select hark.notify('c')");
  const consumer = new Consumer(db, {
    id: "idle",
    channels: "c",
    handle() {},
    pollInterval: 20,
    acknowledgeInterval: 10,
  });
  const running = consumer.run();
  const written = async () =>
    (await sql(
      `select (select count(*) from hark.marks)::int as marks, (select max(acknowledged_at) from hark.partitions) as at`,
    ))[0];
  const looks = async () =>
    Number(
      (await sql(
        "select calls from pg_stat_user_functions where schemaname = 'hark' and funcname = 'cut'",
      ))[0]?.calls ?? 0,
    );
  const looksAgain = async () => {
    const before = await looks();
    await until(async () => await looks() > before + 20);
  };
  await until(async () => (await written())!.at !== null);
  // It comes to rest: what was left to be stored is stored, and a mark follows each transaction of
  // another database's that was open as the notification was published.
  await until(async () => {
    const before = await written();
    await looksAgain();
    return isDeepStrictEqual(await written(), before);
  });
  await consumer.stop();
  await running;
});
