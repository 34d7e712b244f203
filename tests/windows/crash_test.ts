/**
 * Crashes, two-phase commit and standbys. After a crash the server hands out again the transaction
 * numbers that had not reached the disk: a reader that remembers a mark from before counts what they publish
 * now as read.
 */

import assert from "node:assert/strict";
import { EphemeralReader } from "../../src/consume/read/ephemeral_reader.ts";
import {
  cut,
  numberOf,
  type Place,
  RegisteredReader,
  UnregisteredReader,
} from "./_support/reader.ts";
import type { Client } from "../harness/mod.ts";
import { type Lab, NotStaged, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

/** Uses numbers up and leaves them in memory: rolled back, they wait for the next flush. */
async function unflushed(lab: Lab): Promise<void> {
  const client = await lab.client();
  for (let n = 0; n < 40; n++) {
    await client.query("begin; select pg_current_xact_id(); rollback;");
  }
}

async function crash(lab: Lab): Promise<void> {
  await lab.server.kill();
  await lab.server.start();
}

/** What the crash took: numbers given out before it are given out again. */
async function publishAgain(lab: Lab, before: string): Promise<void> {
  await lab.publish(1);
  const [{ reused }] = await lab.sql(
    "select xid < $1::xid8 as reused from hark.log order by id desc limit 1",
    [before],
  );
  // Whatever made the server flush before: nothing is proved then, so it is staged anew.
  if (!reused) throw new NotStaged("the server has to hand numbers out again");
}

async function nextNumber(lab: Lab): Promise<string> {
  return (await lab.sql("select pg_snapshot_xmax(pg_current_snapshot())::text as x"))[0].x;
}

/** The SQLSTATE that a promise is rejected with, if it is. */
function refusal(promise: Promise<unknown>): Promise<string | undefined> {
  return promise.then(() => undefined, (error) => error.code);
}

/** Claims the consumer anew, reads on from what is stored, and checks that this is everything. */
async function claimAndRead({ owner }: RegisteredReader, lab: Lab): Promise<void> {
  const again = new RegisteredReader(await lab.client(), "r");
  again.owner = owner;
  await again.claim();
  await again.drain();
  await assertExactlyOnce(again.client, again.delivered);
}

/** Marks of another life are taken as they come. */
const unchecked = {
  in: "hark.survives",
  from: "if m.number = 0 then",
  to: "if true or m.number = 0 then",
};

const openWindow: Staging = {
  promise: "a window remembered across a crash is refused, and the stored position loses nothing",
  breaks: [{ rule: "when reading on in it is allowed", ...unchecked }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    await unflushed(lab);
    const next = await nextNumber(lab);
    await reader.page();
    const { seen, target } = reader.position;
    await crash(lab);
    await publishAgain(lab, next);
    const after = await lab.client();
    const read = after.query(
      "select * from hark.page($1::hark.marks, $2::hark.marks, null, 0, null, 10, 1000, 1000, null)",
      [seen, target],
    );
    assert.equal(await refusal(read), "HK004");
    await claimAndRead(reader, lab);
  },
};

const acknowledging: Staging = {
  promise: "acknowledging a window remembered across a crash is refused",
  breaks: [{
    rule: "when it is allowed",
    in: "hark.keep_marks",
    from: "if not hark.survives(m) then",
    to: "if false then",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    await unflushed(lab);
    const next = await nextNumber(lab);
    await reader.page();
    reader.pass();
    await crash(lab);
    await publishAgain(lab, next);
    assert.equal(await refusal(reader.acknowledge(0, await lab.client())), "HK004");
    await claimAndRead(reader, lab);
  },
};

const privately: Staging = {
  promise:
    "a private mark remembered across a crash is refused, and one that a position refers to loses nothing",
  breaks: [
    { rule: "when reading on to it is allowed", ...unchecked },
    {
      rule: "when only stored marks are asked whether they have survived",
      in: "hark.survives",
      from: "where c.number = m.number and (c.mark).life = m.life",
      to: "where false",
    },
  ],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    reader.looks = true;
    const late = await lab.writer();
    await late.notify();
    await lab.publish(3);
    await reader.window();
    assert.ok(Number(numberOf(reader.position.seen)) < 0);
    await unflushed(lab);
    const next = await nextNumber(lab);
    await reader.page();
    const { seen, target } = reader.position;
    assert.ok(Number(numberOf(target!)) < 0);
    await crash(lab);
    await publishAgain(lab, next);
    const after = await lab.client();
    const read = after.query(
      "select * from hark.page($1::hark.marks, $2::hark.marks, null, 0, null, 10, 1000, 1000, null)",
      [seen, target],
    );
    assert.equal(await refusal(read), "HK004");
    const again = new RegisteredReader(after, "r");
    again.owner = reader.owner;
    await again.claim();
    assert.equal(numberOf(again.position.seen), numberOf(seen));
    assert.equal(await refusal(again.drain()), undefined);
    await assertExactlyOnce(after, [...reader.delivered, ...again.delivered]);
  },
};

/** Notifications of two transactions that are not waited for, and a mark behind them. */
async function twoAndAMark(lab: Lab, what: string): Promise<string> {
  const client = await lab.client();
  await client.query("set synchronous_commit = off");
  for (const n of [1, 2]) await client.query("select hark.notify('c', $1)", [`"${what} ${n}"`]);
  return await cut(client);
}

const alike: Staging = {
  promise: "a mark that comes again after a crash, alike to the bit, is another mark",
  breaks: [
    { rule: "when a mark of another life is taken for one of this", ...unchecked },
    {
      rule: "when lives do not count",
      in: "hark.survives",
      from: "where k.life = m.life and (k.upper",
      to: "where (k.upper",
    },
  ],
  stage: async (lab) => {
    await lab.sql("checkpoint");
    const [before] = await lab.sql("select hark.content_of(hark.newest_mark()) as mark");
    const lost = await twoAndAMark(lab, "old");
    await crash(lab);
    const again = await twoAndAMark(lab, "new");
    const bare = (mark: string) =>
      mark.replace(/,[0-9a-f-]{36},[^,]*,/, ",").replace(/,[^,]*\)$/, "");
    if (bare(lost) !== bare(again)) throw new NotStaged(`${lost} has to come again, not ${again}`);
    const reader = await goesOn(lab, { seen: lost, target: null, lastId: null, afterId: 0 });
    const code = await refusal(reader.drain());
    const { rows: [row] } = await reader.client.query(
      "select hark.content_of(hark.resume_mark($1::hark.marks)) as mark",
      [lost],
    );
    reader.position = { seen: row.mark, target: null, lastId: null, afterId: 0 };
    await reader.drain();
    assert.deepEqual(reader.delivered.map(({ payload }) => payload), ["new 1", "new 2"]);
    assert.equal(code, "HK004");
    assert.ok(before.mark);
  },
};

const rolledBack: Staging = {
  promise:
    "a reader whose mark a crash took goes on at a mark of before the crash, not at the number before",
  breaks: [{
    rule: "when it goes on at the last mark that is there",
    in: "hark.mark_before",
    from: "where k.taken_at <= m.taken_at and k.life is distinct from now_life",
    to: "where true",
    also: {
      from: "where k.life = m.life and (k.upper < m.upper",
      to: "where false and (k.upper < m.upper",
    },
  }],
  stage: async (lab) => {
    const client = await lab.client();
    await lab.publish(1);
    await cut(client);
    await lab.sql("select hark.notify('c', '\"flushed\"')"); // and the mark with it
    const reader = await UnregisteredReader.open(client, ["c"]);
    const next = await nextNumber(lab);
    for (let n = 0; n < 3; n++) {
      await client.query("begin; select hark.notify('c', '\"never\"'); rollback;");
      await reader.window();
    }
    await crash(lab);
    const writer = await lab.client();
    const publish = async (what: string) => {
      await writer.query("select hark.notify('c', to_jsonb($1::text))", [what]);
      await cut(writer);
    };
    await publish("C");
    await publish("D");
    const [{ reused }] = await lab.sql(
      "select min(xid::text::bigint) < $1::bigint as reused from hark.log where payload = '\"C\"'",
      [next],
    );
    if (reused === null) throw new NotStaged("C has to be there");
    const after = await goesOn(lab, reader.position);
    const code = await refusal(after.drain());
    if (code === undefined) throw new NotStaged("the crash has to take the mark");
    const { rows: [row] } = await after.client.query(
      "select hark.content_of(hark.resume_mark($1::hark.marks)) as mark",
      [reader.position.seen],
    );
    after.position = { ...after.position, seen: row.mark, target: null, lastId: null };
    await after.drain();
    const got = after.delivered.map(({ payload }) => payload);
    assert.ok(got.includes("C") && got.includes("D"), `got ${got}`);
  },
};

/** A reader that goes on from what it remembers, on a new connection. */
async function goesOn(lab: Lab, position: Place): Promise<UnregisteredReader> {
  const reader = new UnregisteredReader(await lab.client(), ["c"]);
  reader.position = position;
  return reader;
}

const betweenWindows: Staging = {
  promise: "a position remembered across a crash between two windows is refused",
  breaks: [{ rule: "when opening a window on it is allowed", ...unchecked }],
  stage: async (lab) => {
    const before = await UnregisteredReader.open(await lab.client(), ["c"]);
    await unflushed(lab);
    const next = await nextNumber(lab);
    await before.window();
    await crash(lab);
    await publishAgain(lab, next);
    const reader = await goesOn(lab, before.position);
    assert.equal(await refusal(reader.drain()), "HK004", "else it loses what was just published");
  },
};

const start: Staging = {
  promise: "a start taken before a crash is refused",
  breaks: [{ rule: "when opening a window on it is allowed", ...unchecked }],
  stage: async (lab) => {
    await unflushed(lab);
    const next = await nextNumber(lab);
    const before = await UnregisteredReader.open(await lab.client(), ["c"], { kind: "now" });
    await crash(lab);
    await publishAgain(lab, next);
    const reader = await goesOn(lab, before.position);
    assert.equal(await refusal(reader.drain()), "HK004", "else it loses what was just published");
  },
};

const passing: Staging = {
  promise:
    "a subscription whose window was read to its end before a crash loses nothing of what comes after it",
  breaks: [{ rule: "when going on from its mark is allowed", ...unchecked }],
  stage: async (lab) => {
    const reader = new EphemeralReader(["c"], { rows: 100, bytes: 1_000_000, scanned: 1000 });
    const seen: number[] = [];
    const read = async (on: Client) => {
      const page = await reader.read(on);
      seen.push(...page.rows.map((row) => row.id));
      return page;
    };
    const before = await lab.client();
    await reader.start(before, ["beginning", null, null]);
    await lab.publish(1);
    await unflushed(lab);
    const next = await nextNumber(lab);
    assert((await read(before)).windowEnd);
    await crash(lab);
    await publishAgain(lab, next);
    const after = await lab.client();
    await read(after).catch((error) => {
      assert.equal(error.code, "WINDOW_LOST");
      reader.lost = true;
    });
    while ((await read(after)).rows.length > 0);
    const ids = (await lab.sql("select id from hark.log order by id")).map(({ id }) => Number(id));
    assert.equal(ids.length, 2);
    assert.deepEqual([...new Set(seen)], ids);
  },
};

const stored: Staging = {
  promise: "a worker goes on in mid-window after a crash, from what it had acknowledged",
  stage: async (lab) => {
    await lab.publish(20);
    const limits = { rows: 8 };
    const reader = await RegisteredReader.open(
      await lab.client(),
      "r",
      ["c"],
      undefined,
      limits,
    );
    const late = await lab.writer();
    await late.notify();
    await lab.publish(5);
    await reader.step();
    await crash(lab);
    await lab.publish(5);
    const again = new RegisteredReader(await lab.client(), "r", limits);
    again.owner = reader.owner;
    await again.claim();
    await again.drain();
    await assertExactlyOnce(again.client, [...reader.delivered, ...again.delivered]);
    assert.equal(again.delivered.length, 22);
  },
};

const prepared: Staging = {
  promise:
    "a prepared transaction is read once it is committed, also after a restart of the server",
  breaks: [{
    rule: "when its locks are not seen",
    in: "hark.raise_lows",
    from: "x.mode = 'ExclusiveLock' and x.pid is not null and not exists (",
    to: "x.mode = 'ExclusiveLock' or exists (",
  }],
  stage: async (lab) => {
    const client = await lab.client();
    await client.query("begin; set local hark.wake = off; select hark.notify('c', '1');");
    await client.query("prepare transaction 'one'");
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    for (let n = 0; n < 4; n++) {
      await lab.publish(4_000);
      await reader.window();
    }
    assert.equal(reader.delivered.length, 16_000);
    assert.deepEqual((await reader.fields()).lows, [0]);
    await lab.server.restart();
    const again = new RegisteredReader(await lab.client(), "r");
    again.owner = reader.owner;
    await again.claim();
    await lab.publish(2_500);
    await again.window();
    await lab.sql("commit prepared 'one'");
    await again.drain();
    await assertExactlyOnce(again.client, [...reader.delivered, ...again.delivered]);
    assert.equal(again.delivered.at(-1)!.id, 1);
  },
};

stagings("crashes and prepared transactions lose nothing", [
  openWindow,
  acknowledging,
  privately,
  alike,
  rolledBack,
  betweenWindows,
  start,
  passing,
  stored,
  prepared,
]);
