/** Where a reader begins: now, at the beginning, at an id, at a time; and what counts as replayed. */

import assert from "node:assert/strict";
import { RegisteredReader, type Start, UnregisteredReader } from "./_support/reader.ts";
import { type Lab, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

const open = async (lab: Lab, start: Start) =>
  await UnregisteredReader.open(await lab.client(), null, start);
const payloads = (reader: { delivered: readonly { payload: unknown }[] }) =>
  reader.delivered.map(({ payload }) => payload);
const notify = (lab: Lab, payload: string) =>
  lab.sql("select hark.notify('c', to_jsonb($1::text))", [payload]);

const now: Staging = {
  promise: "a start now delivers what transactions then running commit later, and nothing before",
  breaks: [
    {
      rule: "when those running are not remembered",
      in: "hark.new_mark",
      from: "into m.stragglers from pg_snapshot_xip(m.snapshot) x (xid);",
      to:
        "into m.stragglers from pg_snapshot_xip(m.snapshot) x (xid) where false; m.stragglers := '{}';",
    },
    {
      rule: "when its floor is taken with its snapshot",
      in: "hark.new_mark",
      from: "m.floor := last.max_id;",
      to: "m.floor := m.max_id;",
    },
  ],
  stage: async (lab) => {
    await notify(lab, "before");
    const [listed, young] = [await lab.writer(), await lab.writer()];
    await listed.notify("listed");
    await notify(lab, "before too");
    await young.notify("young"); // nothing younger has ended: not listed in the snapshot
    const reader = await open(lab, { kind: "now" });
    await listed.notify("listed, later");
    await notify(lab, "after");
    await listed.commit(); // before the first window, which would list it
    await reader.window();
    await young.commit();
    await reader.drain();
    assert.deepEqual(payloads(reader), ["listed", "listed, later", "after", "young"]);
  },
};

const nowIsNear: Staging = {
  promise: "a start now does not look at what lies behind the last marks",
  stage: async (lab) => {
    const old = await lab.writer();
    await old.number();
    await lab.sql("select hark.cut()"); // before it publishes, so that its number lies below the fence
    for (let n = 0; n < 4; n++) {
      await lab.publish(4_000);
      await lab.sql("select hark.cut()");
    }
    await old.notify("late"); // no longer idle: its low has to come from the marks
    const reader = await open(lab, { kind: "now" });
    const { floor, lows } = await reader.fields();
    assert.ok(Math.min(floor, ...lows) >= 10_000, `looks from ${Math.min(floor, ...lows)}`);
    await old.commit();
    await reader.drain();
    assert.deepEqual(payloads(reader), ["late"]);
  },
};

const beginning: Staging = {
  promise: "a start at the beginning delivers everything in the log, and what is running commits",
  stage: async (lab) => {
    const late = await lab.writer();
    await late.notify("late");
    await notify(lab, "one");
    for (let n = 0; n < 3; n++) await lab.sql("select hark.cut()");
    const reader = await open(lab, { kind: "beginning" });
    await reader.window();
    await reader.window();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
    assert.deepEqual(payloads(reader), ["one", "late"]);
  },
};

const id: Staging = {
  promise: "a start at an id delivers that and all above it, whenever it was committed",
  stage: async (lab) => {
    await lab.publish(5);
    const late = await lab.writer();
    await late.notify("late"); // 6
    await lab.publish(2);
    const reader = await open(lab, { id: 4 });
    const registered = await RegisteredReader.open(await lab.client(), "r", ["c"], { id: 9 });
    await reader.window();
    await reader.window();
    await late.commit();
    await lab.publish(1);
    await reader.drain();
    await registered.drain();
    assert.deepEqual(reader.delivered.map((row) => row.id), [4, 5, 7, 8, 6, 9]);
    assert.deepEqual(registered.delivered.map((row) => row.id), [9]);
  },
};

const nowhere: Staging = {
  promise: "a start at a place that is not there is refused with what would do",
  stage: async (lab) => {
    await lab.publish(2);
    for (const bad of [{ id: 0 }, { id: -1 }, { id: 4 }, { time: null as unknown as string }]) {
      await assert.rejects(open(lab, bad), { code: "HK006", hint: /Give/ });
    }
    await assert.rejects(lab.sql("select hark.start_position('soon', null, null)"), {
      code: "HK006",
    });
  },
};

const time: Staging = {
  promise:
    "a start at a time delivers at least all committed since, also what was published before it",
  breaks: [
    {
      rule: "when it begins at a mark after it",
      in: "hark.start_position",
      from: "from hark.marks m where m.taken_at <= start_time",
      to: "from hark.marks m where m.taken_at >= start_time",
    },
    {
      rule: "when a mark's floor is taken with its snapshot",
      in: "hark.new_mark",
      from: "m.floor := last.max_id;",
      to: "m.floor := m.max_id;",
    },
    {
      rule: "when a mark does not list who was running",
      in: "hark.new_mark",
      from: "into m.stragglers from pg_snapshot_xip(m.snapshot) x (xid);",
      to:
        "into m.stragglers from pg_snapshot_xip(m.snapshot) x (xid) where false; m.stragglers := '{}';",
    },
  ],
  stage: async (lab) => {
    await notify(lab, "long before");
    await lab.sql("select hark.cut()");
    const listed = await lab.writer();
    await listed.notify("listed");
    await notify(lab, "before");
    const young = await lab.writer();
    await young.notify("young");
    await lab.sql("select hark.cut()");
    const [{ at }] = await lab.sql("select clock_timestamp()::text as at");
    await notify(lab, "after");
    await lab.sql("select hark.cut()");
    await notify(lab, "after that");
    const reader = await open(lab, { time: at });
    await listed.commit(); // before the first window, which would list it
    await reader.window();
    await young.commit();
    await reader.drain();
    const got = payloads(reader);
    for (const wanted of ["listed", "young", "after", "after that"]) {
      assert.equal(got.filter((payload) => payload === wanted).length, 1, wanted);
    }
    assert.equal(new Set(got).size, got.length, "nothing twice");
    assert.ok(!got.includes("long before"), "not all of the log either");
  },
};

const replay: Staging = {
  promise: "a notification is a replay if it was there when the worker started, and else not",
  breaks: [{
    rule: "when all that lies in the first window counts",
    in: "hark.page",
    from: "else pg_visible_in_snapshot(f.xid, begun) end",
    to: "else f.id <= top end",
  }],
  stage: async (lab) => {
    await notify(lab, "before");
    const late = await lab.writer();
    await late.notify("running");
    const limits = { rows: 1 };
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"], undefined, limits);
    await notify(lab, "before the first window");
    await reader.step();
    await notify(lab, "live");
    await late.commit();
    await reader.drain();
    assert.deepEqual(reader.delivered.map(({ payload, isReplay }) => [payload, isReplay]), [
      ["before", true],
      ["before the first window", true],
      ["running", false],
      ["live", false],
    ]);
    await notify(lab, "while it was away");
    await reader.restart();
    await reader.drain();
    assert.deepEqual(
      reader.delivered.slice(4).map(({ payload, isReplay }) => [payload, isReplay]),
      [["while it was away", true]],
    );
  },
};

stagings("a reader starts where it was told to", [
  now,
  nowIsNear,
  beginning,
  id,
  nowhere,
  time,
  replay,
]);
