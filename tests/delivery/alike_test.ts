import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { Bell } from "../../src/database/bell.ts";
import { completeOptions } from "../../src/consume/check_options.ts";
import { OwnedPartition } from "../../src/consume/state/partition.ts";
import { cut } from "../../src/consume/read/cut.ts";
import { Fetcher } from "../../src/consume/read/fetcher.ts";
import { Membership } from "../../src/consume/lease/membership.ts";
import { WindowReader } from "../../src/consume/read/window_reader.ts";
import { State } from "../../src/consume/state/state.ts";
import { ObservedRun } from "../../src/observe/run.ts";
import { ownServer } from "../harness/mod.ts";

// A server of its own: any transaction that ends, in any database, would hide the fault.
Deno.test("a transaction that stays open over two windows is not lost where partitions are brought together", async () => {
  await using server = await ownServer({ settings: { autovacuum: "off" } });
  await using db = await connect(server.url);
  const options = completeOptions({ partitions: 2, pageSize: 3, readAhead: 100 }, "c", "c", {
    handle: () => {},
    handleBatch: undefined,
  });
  await db.query("select hark.register('c', array['c'], 'beginning', partitions => 2)");
  const member = new Membership(options.identity, db, undefined);
  await member.heartbeat(db);
  const claimed = await member.claim(db, [0, 1], false);
  await member.end();

  const never = new AbortController().signal;
  const bell = new Bell();
  const readers: WindowReader[] = [];
  const run = {
    stopping: never,
    abandon: never,
    wake: new Bell(),
    bell,
    control: new Bell(),
    listener: undefined,
    observed: new ObservedRun("c", "", { query: () => Promise.reject(new Error("unused")) }),
    drain: false,
    limit: Infinity,
    waits: true,
  };
  const state = new State(options, run, readers);
  state.started = await cut(db);
  // Partitions of two claims: each has a reader of its own until they have read to one snapshot.
  for (const one of claimed) {
    const held = new OwnedPartition(one, options.readAhead, never);
    state.partitions.set(held.number, held);
    const reader = new WindowReader(one.position);
    reader.partitions.add(held);
    held.reader = reader;
    readers.push(reader);
  }
  const intake = new Fetcher(state, readers);
  const second = state.partitions.get(1)!;
  const read = () => second.entries().map(({ id }) => id);

  // Sessions that write one after the other, in the order of their transaction numbers.
  const { rows: [{ key }] } = await db.query(
    "select k::text as key from generate_series(1, 100) k where hark.partition_of(k::text, 0, 2) = 1 limit 1",
  );
  const notify = "select hark.notify('c', '{}', $1)";
  const [many, early, late] = [
    await server.client(),
    await server.client(),
    await server.client(),
  ];
  await many.query("begin");
  for (let n = 0; n < 4; n++) await many.query(notify, [key]); // more than a page
  await early.query("begin");
  await early.query(notify, [key]);
  await late.query("begin");
  await late.query(notify, [key]);
  await early.query("commit");

  // The first reader's window is empty, the second's has one; both end at one mark, and go on as one.
  await intake.read(db);
  assert.deepEqual(read(), [5]);
  assert.equal(readers.length, 1);

  await many.query("commit");
  bell.ring();
  await intake.read(db); // more than a page
  await intake.read(db);
  assert.deepEqual(read(), [5, 1, 2, 3, 4]);

  await late.query("commit");
  for (let n = 0; n < 3; n++) {
    bell.ring();
    await intake.read(db);
  }
  assert.deepEqual(read(), [5, 1, 2, 3, 4, 6], "what was committed last is read as well");
});
