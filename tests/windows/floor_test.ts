/** Where a window begins to read: the floor, and the lows of transactions that were running. */

import assert from "node:assert/strict";
import { cut, RegisteredReader, UnregisteredReader } from "./_support/reader.ts";
import { type Lab, pause, replaceIn, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

const numberedBeforeTheSnapshot: Staging = {
  promise:
    "a transaction that had published when a window opened, too young to be listed, is read later",
  breaks: [{
    rule: "when the floor does not lag one window behind",
    in: "hark.new_mark",
    from: "m.floor := last.max_id;",
    to: "m.floor := m.max_id;",
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
  promise: "acknowledging in a transaction that was writing before the mark was cut loses nothing",
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
    reader.pass();
    await reader.acknowledge(1, handler.client);
    await handler.commit();
    await reader.window();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const betweenSnapshotAndFence: Staging = {
  promise: "a transaction that drew its id between a mark's snapshot and its fence is read",
  breaks: [{
    rule: "when it is not asked whether it came after the fence",
    in: "hark.new_mark",
    from: "when x.xid > last.fence then last.max_id",
    to: "when x.xid >= last.upper then last.max_id",
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    const late = await lab.writer();
    await late.notify(); // nothing younger has ended: no snapshot lists it
    await reader.window();
    await lab.publish(1);
    await reader.window(); // lists it
    await lab.publish(1);
    await reader.window();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const builtUponAsSeen: Staging = {
  promise: "a slow cut beside others loses nothing: it builds on a mark that its snapshot sees",
  breaks: [{
    rule: "when it builds on one that came after its snapshot",
    in: "hark.new_mark",
    from: "    m.upper := pg_snapshot_xmax(m.snapshot);",
    to: `    if current_setting('hark.slow', true) = 'on' then
      ${pause}
      select w.* into last from (select * from hark.marks n order by n.upper desc, n.running, n.number desc limit 1) w;
    end if;
    m.upper := pg_snapshot_xmax(m.snapshot);`,
  }],
  stage: async (lab) => {
    if (!lab.isBroken) {
      await replaceIn(lab.url, {
        rule: "",
        in: "hark.new_mark",
        from: "    m.upper := pg_snapshot_xmax(m.snapshot);",
        to: `    if current_setting('hark.slow', true) = 'on' then ${pause} end if;
          m.upper := pg_snapshot_xmax(m.snapshot);`,
      });
    }
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    await reader.client.query("set hark.slow = 'on'");
    await lab.publish(1);
    const late = await lab.writer();
    await lab.held(lab.gate, () => reader.window(), async () => {
      await late.notify();
      await lab.sql("select hark.cut()");
    });
    await reader.client.query("reset hark.slow");
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const outOfOrder: Staging = {
  promise: "a mark that is stored after a later one falls into its place",
  breaks: [{
    rule: "when the newest mark is the one that was stored last",
    in: "hark.newest_mark",
    from: "order by m.upper desc, m.running, m.number desc",
    to: "order by m.number desc",
  }],
  stage: async (lab) => {
    await replaceIn(lab.url, {
      rule: "",
      in: "hark.new_mark",
      from: "    m.upper := pg_snapshot_xmax(m.snapshot);",
      to: `    if current_setting('hark.slow', true) = 'on' then ${pause} end if;
        m.upper := pg_snapshot_xmax(m.snapshot);`,
    });
    const slow = await lab.client();
    await slow.query("set hark.slow = 'on'");
    await lab.publish(1);
    const early = await lab.held(lab.gate, () => cut(slow), async () => {
      await lab.publish(3);
      await cut(await lab.client());
    });
    const [{ newest }] = await lab.sql("select hark.content_of(hark.newest_mark()) as newest");
    assert.notEqual(newest, early);
    const reader = await UnregisteredReader.open(await lab.client(), ["c"], { kind: "now" });
    await lab.publish(1);
    await reader.drain();
    assert.deepEqual(reader.delivered.map(({ id }) => id), [5]);
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
    in: "hark.new_mark",
    from: "when x.xid >= last.upper then last.floor",
    to: "when x.xid >= last.upper then last.max_id",
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
    rule: "when each mark gives it a new low",
    in: "hark.new_mark",
    from: "else (select k.low from",
    to: "else (select last.floor from",
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

/** Draws `count` ids and publishes with the last one, as if transactions with the others were rolled back. */
async function goBy(lab: Lab, count: number): Promise<void> {
  await lab.sql("select setval('hark.log_id_seq', nextval('hark.log_id_seq') + $1)", [count - 2]);
  await lab.publish(1);
}

/** The low of the one transaction running after 16,000 ids have gone by, each 4,000 in a second. */
async function lowAfterMany(lab: Lab, reader: RegisteredReader) {
  for (let n = 0; n < 4; n++) {
    await goBy(lab, 4_000);
    await lab.sql("update hark.marks set looked_at = looked_at - interval '1 second'");
    await reader.window();
  }
  const { lows } = await reader.fields();
  assert.equal(lows.length, 1);
  return lows[0]!;
}

const idleStraggler: Staging = {
  promise: "a transaction open for long costs no second look at what was published in that time",
  breaks: [{
    rule: "when its low is never raised",
    in: "hark.new_mark",
    from: "> 10000\n",
    to: "> 10000 and false\n",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const idle = await lab.writer();
    await idle.number();
    assert.ok(await lowAfterMany(lab, reader) >= 10_000);
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
    assert.equal(await lowAfterMany(lab, reader), 0);
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
    await goBy(lab, 6_000);
    await reader.window();
    await goBy(lab, 6_000);
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
  betweenSnapshotAndFence,
  builtUponAsSeen,
  outOfOrder,
  newStraggler,
  knownStraggler,
  besideAnother,
  idleStraggler,
  publishedStraggler,
  publishesDuringTheLook,
]);
