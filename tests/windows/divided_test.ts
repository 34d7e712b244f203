/** Windows up to a common mark, and changes of the number of partitions, under interleavings staged by hand. */

import assert from "node:assert/strict";
import { attend, cut, type Delivered, RegisteredReader } from "./_support/reader.ts";
import { type Lab, pause, replaceIn, type Staging, stagings } from "./_support/staging.ts";
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

/** Publishes a number, of many keys. */
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
    rule: "when the change fences off no worker",
    in: "hark.turn_partitions",
    from: "update hark.partitions s set epoch = s.epoch + 1, owner = null where s.consumer = $1;",
    to: "",
  }],
  stage: async (lab) => {
    // Slow, not wrong: between its look at the consumer and its snapshot.
    await replaceIn(lab.url, {
      rule: "",
      in: "hark.window",
      from: "bounded := barrier",
      to: `${pause} bounded := barrier`,
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
  stage: async (lab) => {
    await register(lab, 2);
    const reader = await serve(lab, 0);
    await publish(lab, 10);
    await reader.window();
    await endLeases(lab);
    const writer = await lab.writer();
    await writer.number();
    await lab.publish(1); // younger, and over: the transaction's number lies below the next snapshot's end
    await cut(await lab.client());
    await writer.client.query("select hark.repartition('r', 3)");
    for (const key of ["a", "b", "c", "d"]) await writer.notify({}, "c", key);
    await writer.commit();
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
    "a partition that waits at the barrier loses nothing, however often it is looked at before",
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

const restored: Staging = {
  promise: "positions of a restored database that become one lose nothing",
  breaks: [{
    rule: "when they go on where the last of them began",
    in: "hark.turn_partitions",
    from: "min(s.after_id) as after_id",
    to: "max(s.after_id) + 1000 as after_id",
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
    await publish(lab, 10);
    const before = [...one.delivered, ...two.delivered];
    await lab.sql("delete from hark.workers");
    assert.deepEqual(await lab.sql("select hark.repartition('r', 3) as how"), [{ how: "pending" }]);
    const rest = await readToTheBarrier(lab, 2);
    assert.ok(await changed(lab));
    await publish(lab, 10);
    const { missed } = await difference(one.client, [...before, ...rest, ...await readAll(lab, 3)]);
    assert.deepEqual(missed, []);
  },
};

stagings("partitions read to a common mark", [
  oldOwner,
  changeWhilePublishing,
  settledForLong,
  restored,
]);
