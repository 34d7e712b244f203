/** Windows up to a common snapshot, and changes of the number of partitions, under interleavings staged by hand. */

import assert from "node:assert/strict";
import { attend, type Delivered, RegisteredReader } from "./_support/reader.ts";
import {
  type Lab,
  NotStaged,
  pause,
  replaceIn,
  type Staging,
  stagings,
} from "./_support/staging.ts";
import { assertExactlyOnce, difference } from "./_support/truth.ts";

/** Registers consumer r of several partitions. */
async function register(lab: Lab, partitions: number): Promise<void> {
  await lab.sql("select hark.register('r', array['c'], partitions => $1)", [partitions]);
}

/** A worker of one of the partitions. */
async function serve(lab: Lab, partition: number): Promise<RegisteredReader> {
  const reader = new RegisteredReader(await lab.client(), "r", {}, partition);
  await reader.claim();
  return reader;
}

/** Publishes so many, of many keys. */
async function publish(lab: Lab, count: number): Promise<void> {
  await lab.sql("select hark.notify('c', '1', n::text) from generate_series(1, $1) n", [count]);
}

async function endLeases(lab: Lab): Promise<void> {
  await lab.sql("update hark.processes set lease_until = clock_timestamp() - interval '1 second'");
}

/** Whether the number of partitions is what it was changed to. */
async function changed(lab: Lab): Promise<boolean> {
  const [{ next }] = await lab.sql("select next_partitions as next from hark.consumers");
  return next === null;
}

/** Reads what partitions have left to where the number of partitions can change; gives what came. */
async function readToTheBarrier(lab: Lab, partitions: number): Promise<Delivered[]> {
  const delivered: Delivered[] = [];
  for (let n = 0; n < partitions; n++) {
    const reader = await serve(lab, n);
    for (let windows = 0; windows < 2; windows++) await reader.window();
    await reader.release();
    delivered.push(...reader.delivered);
  }
  await attend(await lab.client(), "r", crypto.randomUUID());
  return delivered;
}

/** Reads everything from the partitions as they are now. */
async function readAll(lab: Lab, partitions: number): Promise<Delivered[]> {
  const delivered: Delivered[] = [];
  for (let n = 0; n < partitions; n++) {
    const reader = await serve(lab, n);
    delivered.push(...await reader.drain());
  }
  return delivered;
}

const oldOwner: Staging = {
  promise: "an old worker that looked before a change of partitions began cannot move past it",
  breaks: [{
    rule: "when the change fences off nobody",
    in: "hark.turn_partitions",
    from: "update hark.partitions s set epoch = s.epoch + 1, owner = null where s.consumer = $1;",
    to: "",
  }],
  stage: async (lab) => {
    // Slow, not wrong: between its look at the consumer and its snapshot.
    await replaceIn(lab.url, {
      rule: "",
      in: "hark.window",
      from: "settled := c.barrier",
      to: `${pause} settled := c.barrier`,
    });
    await register(lab, 2);
    const old = await serve(lab, 0);
    await publish(lab, 10);
    await old.window();
    const acknowledged = [...old.delivered];
    await endLeases(lab);
    await lab.held(lab.gate, () => old.page(), async () => {
      await lab.sql("select hark.repartition('r', 3)");
      await publish(lab, 10);
    });
    const code = await old.acknowledge(1).then(() => undefined, (error) => error.code);
    const rest = await readToTheBarrier(lab, 2);
    assert.ok(await changed(lab), "every partition has read to the barrier");
    await assertExactlyOnce(old.client, [...acknowledged, ...rest, ...await readAll(lab, 3)]);
    assert.equal(code, "HK005");
  },
};

const changeWhilePublishing: Staging = {
  promise:
    "who changes the number of partitions and then publishes in one transaction loses nothing",
  breaks: [{
    rule: "when the barrier counts its own transaction as seen",
    in: "hark.turn_partitions",
    from: `hark.without_own(pg_current_snapshot())`,
    to: "pg_current_snapshot()",
  }],
  stage: async (lab) => {
    await register(lab, 2);
    const reader = await serve(lab, 0);
    await publish(lab, 10);
    await reader.window();
    await endLeases(lab);
    const writer = await lab.writer();
    await writer.number();
    await lab.publish(1); // younger, and over: the transaction's number lies below the next snapshot's end
    await writer.client.query("select hark.repartition('r', 3)").then(
      async () => {
        for (const key of ["a", "b", "c", "d"]) await writer.notify({}, "c", key);
        await writer.commit();
      },
      async (error) => {
        assert.equal(error.code, "HK001");
        await writer.rollback();
        await lab.sql("select hark.repartition('r', 3)");
      },
    );
    const rest = await readToTheBarrier(lab, 2);
    assert.ok(await changed(lab));
    await assertExactlyOnce(reader.client, [
      ...reader.delivered,
      ...rest,
      ...await readAll(lab, 3),
    ]);
  },
};

const settledForLong: Staging = {
  promise:
    "a partition that waits at the barrier loses nothing, however often it is looked at meanwhile",
  breaks: [{
    rule: "when each look raises the floor",
    in: "hark.window_advance",
    from: `if p.target::text = p.seen::text then`,
    to: "if false then",
  }],
  stage: async (lab) => {
    await register(lab, 2);
    const reader = await serve(lab, 0);
    await publish(lab, 10);
    await reader.window();
    await endLeases(lab);
    const late = await lab.writer();
    await late.notify(); // nothing younger has ended: not listed in the barrier
    await lab.sql("select hark.repartition('r', 3)");
    const rest = await readToTheBarrier(lab, 2);
    assert.ok(await changed(lab));
    await late.commit();
    await assertExactlyOnce(reader.client, [
      ...reader.delivered,
      ...rest,
      ...await readAll(lab, 3),
    ]);
  },
};

const passedByAnOldWriter: Staging = {
  promise: "passing a window in a transaction that was writing before it opened is refused",
  breaks: [{
    rule: "when it counts as a fence there",
    in: "hark.window_skip",
    from: `perform hark.require_fresh_snapshot();`,
    to: "",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const [ends, handler, late] = [await lab.writer(), await lab.writer(), await lab.writer()];
    await ends.number();
    await handler.number();
    await late.number();
    assert.equal(await late.notify(), 1);
    assert.equal(await ends.notify(), 2);
    await ends.commit();
    await reader.page();
    const passes = new RegisteredReader(handler.client, "r");
    passes.position = reader.position;
    const code = await passes.pass().then(() => undefined, (error) => error.code);
    if (code === undefined) {
      reader.position = passes.position;
      await handler.commit();
    } else await handler.rollback();
    await reader.window();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
    assert.equal(code, "HK001");
  },
};

const passedWithAPageByAnOldWriter: Staging = {
  promise:
    "a page that is read in a transaction that was writing before does not go past its window",
  breaks: [{
    rule: "when it counts as a fence there",
    in: "hark.page",
    from: "and pg_current_xact_id_if_assigned() is null then",
    to: "then",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    await lab.publish(1);
    const { rows: [{ position }] } = await reader.client.query(
      "select hark.window_open($1::hark.position)::text as position",
      [reader.position],
    );
    const writer = await lab.writer();
    await writer.number();
    const { rows: [{ ids, next }] } = await writer.client.query(
      `select g.ids, g.next::text as next
       from hark.page($1::hark.position, '{c}', 500, 1000000, 10000, null, fence => true) g`,
      [position],
    );
    await writer.rollback();
    assert.equal(ids, "1");
    assert.equal(next, null);
  },
};

const alikeAcrossACrash: Staging = {
  promise: "a window remembered across a crash is nothing to open another up to",
  stage: async (lab) => {
    await register(lab, 2);
    const old = await serve(lab, 0);
    const client = await lab.client();
    for (let n = 0; n < 40; n++) {
      await client.query("begin; select pg_current_xact_id(); rollback;");
    }
    // On a connection that is there: one that is new, after a function was replaced, makes the server flush.
    const { rows: [{ next }] } = await client.query(
      "select pg_snapshot_xmax(pg_current_snapshot())::text as next",
    );
    await old.page();
    await lab.server.kill();
    await lab.server.start();
    await publish(lab, 10);
    const [{ reused }] = await lab.sql("select xid < $1::xid8 as reused from hark.log", [next]);
    if (!reused) throw new NotStaged("the server has to hand numbers out again");
    const reader = await serve(lab, 1);
    const { rows: [row] } = await reader.client.query(
      `select w.position::text from hark.window($1, $2, $3, $4, $5::hark.position, $6::hark.position) w`,
      [...reader.identity, reader.position, old.position],
    ).catch((error) => {
      assert.equal(error.code, "HK004");
      return { rows: [{ position: reader.position }] };
    });
    reader.position = row.position;
    await reader.window();
    await reader.drain();
    const again = new RegisteredReader(await lab.client(), "r");
    again.owner = old.owner;
    await again.claim();
    await again.drain();
    await assertExactlyOnce(reader.client, [...reader.delivered, ...again.delivered]);
  },
};

const restored: Staging = {
  promise: "positions of a restored database that become one lose nothing",
  breaks: [{
    rule: "when they look only from where the last of them stood",
    in: "hark.merged",
    from: "m.floor := least(a.floor, b.floor);",
    to: "m.floor := greatest(a.floor, b.floor);",
  }],
  stage: async (lab) => {
    await register(lab, 2);
    const [one, two] = [await serve(lab, 0), await serve(lab, 1)];
    await publish(lab, 10);
    for (let n = 0; n < 3; n++) {
      await one.window();
      await publish(lab, 10);
    }
    await lab.sql("update hark.install set system_identifier = 1, written_by = null");
    assert.deepEqual(await lab.sql("select hark.rebase() as done"), [{ done: true }]);
    await one.claim();
    await two.claim();
    const { rows: [row] } = await one.client.query(
      "select hark.merged($1::hark.position, $2::hark.position)::text as position",
      [one.position, two.position],
    );
    two.position = row.position;
    one.position = row.position;
    await one.drain();
    await two.drain();
    const { missed } = await difference(one.client, [...one.delivered, ...two.delivered]);
    assert.deepEqual(missed, []);
  },
};

stagings("partitions read to a common snapshot", [
  oldOwner,
  changeWhilePublishing,
  settledForLong,
  passedByAnOldWriter,
  passedWithAPageByAnOldWriter,
  alikeAcrossACrash,
  restored,
]);
