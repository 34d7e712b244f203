/** Where a window begins to read: the floor, and the lows of transactions that were running. */

import assert from "node:assert/strict";
import { RegisteredReader, UnregisteredReader } from "./_support/reader.ts";
import { pause, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

const numberedBeforeTheSnapshot: Staging = {
  promise:
    "a transaction that had published when a window opened, too young to be listed, is read later",
  breaks: [{
    rule: "when the floor does not lag one window behind",
    in: "hark.window_advance",
    from: "w.floor := p.seen_max",
    to: "w.floor := p.target_max",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const writer = await lab.writer();
    await writer.notify(); // nothing younger has ended: the snapshot's xmax is this transaction
    await reader.window();
    await writer.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const acknowledgedByAnOldWriter: Staging = {
  promise: "acknowledging in a transaction that was writing before the window opened is refused",
  breaks: [{
    rule: "when such an acknowledgement counts as a fence",
    in: "hark.acknowledge",
    from: "perform hark.require_fresh_snapshot();",
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
    const code = await reader.acknowledge(1, handler.client)
      .then(() => undefined, (error) => error.code);
    if (code !== undefined) {
      await handler.rollback();
      await reader.acknowledge(1);
    } else await handler.commit();
    await reader.window();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
    assert.equal(code, "HK001");
  },
};

const unregisteredFence: Staging = {
  promise: "a reader that stores nothing loses nothing",
  breaks: [{ rule: "when it takes no number between two windows", flag: "no fence" }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    if (lab.broken("no fence")) reader.fence = () => Promise.resolve();
    const [ends, other, late] = [await lab.writer(), await lab.writer(), await lab.writer()];
    await ends.number();
    await other.number();
    assert.equal(await late.notify(), 1);
    assert.equal(await ends.notify(), 2);
    await ends.commit();
    await reader.window();
    await other.commit();
    await reader.window();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const passing: Staging = {
  promise: "a reader that passes windows without storing that loses nothing",
  breaks: [{
    rule: "when passing one takes no number",
    in: "hark.pass",
    from: "if pg_current_xact_id() is null then",
    to: "if false then",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const [ends, other, late] = [await lab.writer(), await lab.writer(), await lab.writer()];
    await ends.number();
    await other.number();
    assert.equal(await late.notify(), 1);
    assert.equal(await ends.notify(), 2);
    await ends.commit();
    await reader.page();
    await reader.pass();
    await other.commit();
    await reader.page();
    await reader.pass();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const passingWithItsPage: Staging = {
  promise: "a reader that goes past a window with its last page loses nothing",
  breaks: [{
    rule: "when the page takes no number",
    in: "hark.page",
    from: "if pg_current_xact_id() is not null then",
    to: "if true then",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const [ends, other, late] = [await lab.writer(), await lab.writer(), await lab.writer()];
    await ends.number();
    await other.number();
    assert.equal(await late.notify(), 1);
    assert.equal(await ends.notify(), 2);
    assert.equal(await other.notify(), 3);
    await ends.commit();
    assert(await reader.passing());
    await other.commit();
    assert(await reader.passing());
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

/** Leaves a transaction open that is younger than one snapshot and listed as running in the next. */
async function straggler(lab: Parameters<Staging["stage"]>[0]) {
  const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
  const [ends, late] = [await lab.writer(), await lab.writer()];
  await ends.number();
  assert.equal(await late.notify(), 1);
  assert.equal(await ends.notify(), 2);
  await ends.commit();
  await reader.window();
  await reader.window();
  return { reader, late };
}

const newStraggler: Staging = {
  promise:
    "a transaction first listed as running is looked for from the floor of the snapshot before",
  breaks: [{
    rule: "when it is looked for from the new floor",
    in: "hark.window_advance",
    from: "p.stragglers, p.lows, p.floor)",
    to: "p.stragglers, p.lows, w.floor)",
  }],
  stage: async (lab) => {
    const { reader, late } = await straggler(lab);
    assert.equal((await reader.fields()).floor, 2);
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const knownStraggler: Staging = {
  promise: "a transaction that runs through many windows is still read from where it began",
  breaks: [{
    rule: "when each window gives it a new low",
    in: "hark.lows_of",
    from: "coalesce((select k.low",
    to: "coalesce((select null::bigint), (select otherwise), (select k.low",
  }],
  stage: async (lab) => {
    const { reader, late } = await straggler(lab);
    for (let n = 0; n < 5; n++) {
      const other = await lab.writer();
      await other.notify(n);
      await lab.publish(3);
      await reader.window();
      await other.commit();
    }
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const besideAnother: Staging = {
  promise: "so is one that is first listed beside another that runs for long",
  breaks: [{
    rule: "when it is not looked at who they are",
    in: "hark.window_advance",
    from: "w.stragglers = p.stragglers and w.floor",
    to: "w.floor",
  }],
  stage: async (lab) => {
    const { reader, late } = await straggler(lab);
    const other = await lab.writer();
    await other.notify(1);
    for (let n = 0; n < 3; n++) {
      await lab.publish(1);
      await reader.window();
    }
    await other.commit();
    await lab.publish(1);
    await reader.drain();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

/** The low of the one transaction running after 2,000 ids have gone by. */
async function lowAfterMany(reader: RegisteredReader, publish: () => Promise<void>) {
  for (let n = 0; n < 4; n++) {
    await publish();
    await reader.window();
  }
  const { lows } = await reader.fields();
  assert.equal(lows.length, 1);
  return lows[0]!;
}

const idleStraggler: Staging = {
  promise: "a transaction open for long costs no second look at what was published meanwhile",
  breaks: [{
    rule: "when its low is never raised",
    in: "hark.window_advance",
    from: "> 1000 then",
    to: "> 1000 and false then",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const idle = await lab.writer();
    await idle.number();
    assert.ok(await lowAfterMany(reader, () => lab.publish(1_000)) >= 2_000);
    await idle.notify("late");
    await idle.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const publishedStraggler: Staging = {
  promise: "a transaction open for long that has published is still read from where it did",
  breaks: [{
    rule: "when lows rise without a look at its locks",
    in: "hark.raise_lows",
    from: "x.mode = 'ExclusiveLock' and x.pid is not null and not exists (",
    to: "x.mode = 'ExclusiveLock' or exists (",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const late = await lab.writer();
    await late.notify();
    assert.equal(await lowAfterMany(reader, () => lab.publish(1_000)), 0);
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const publishesDuringTheLook: Staging = {
  promise: "a transaction that publishes while its locks are looked at is read",
  breaks: [{
    rule: "when the sequence is read after the look",
    in: "hark.raise_lows",
    from: "  return raised;",
    to: `${pause}
      select array_agg(greatest(t.low, s.last_value) order by t.place) into raised
      from hark.log_id_seq s, unnest(raised) with ordinality t (low, place)
      where t.low = before_look;
      return raised;`,
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const late = await lab.writer();
    await late.number();
    await lab.publish(1_500);
    await reader.window();
    await lab.publish(1_500);
    await lab.held(lab.gate, () => reader.window(), async () => {
      await late.notify();
    });
    for (let n = 0; n < 2; n++) {
      await lab.publish(1);
      await reader.window();
    }
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

stagings("a window begins low enough for every transaction", [
  numberedBeforeTheSnapshot,
  acknowledgedByAnOldWriter,
  unregisteredFence,
  passing,
  passingWithItsPage,
  newStraggler,
  knownStraggler,
  besideAnother,
  idleStraggler,
  publishedStraggler,
  publishesDuringTheLook,
]);
