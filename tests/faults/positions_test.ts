/** Positions outside of the database, through a crash that takes marks, and beside writers of all kinds. */

import assert from "node:assert/strict";
import {
  connect,
  type Database,
  type Notification,
  subscribe,
  type SubscriptionResume,
} from "../../mod.ts";
import { ownServer, patient, test, within } from "../harness/mod.ts";
import { Reading } from "./_support/running.ts";

/** Reads `c` to its end, from a position or from the beginning. */
async function rest(db: Database, position?: string): Promise<Notification[]> {
  const all: Notification[] = [];
  const from = position === undefined ? "beginning" : { position };
  for await (const n of subscribe(db, "c", { follow: false, from, pageSize: 5 })) all.push(n);
  return all;
}

Deno.test("a position of before a crash loses nothing, wherever it is", async () => {
  await using server = await ownServer({ settings: { wal_writer_delay: "10s" } });
  const before = await (async () => {
    await using db = await connect(server.url);
    await db.query("select hark.notify('c', to_jsonb(n)) from generate_series(1, 20) n");
    const read = await rest(db);
    await db.query("checkpoint");
    // Not flushed: the crash takes these, and the marks that see them.
    await db.transaction(async (tx) => {
      await tx.query("set local synchronous_commit = off");
      await tx.query("select hark.notify('c', to_jsonb(n)) from generate_series(21, 30) n");
    });
    return [...read, ...await rest(db, read.at(-1)!.position)];
  })();
  assert.equal(before.length, 30);
  await server.stop("immediate");
  await server.start();
  await using db = await connect(server.url);
  await db.query("select hark.notify('c', to_jsonb(n)) from generate_series(101, 110) n");
  const log = (await rest(db)).map((n) => `${n.id} ${n.payload}`);
  assert(log.length >= 30 && log.at(-1)!.endsWith(" 110"), `${log}`);
  let position: string | undefined;
  for (const [i, last] of before.entries()) {
    position = last.position!;
    const read = new Set(before.slice(0, i + 1).map((n) => `${n.id} ${n.payload}`));
    const after = await rest(db, position);
    for (const n of after) read.add(`${n.id} ${n.payload}`);
    assert.deepEqual(log.filter((one) => !read.has(one)), [], `from ${position}`);
    if (after.length > 0) assert(after[0]!.position! > position, "the next life sorts behind");
  }
});

test("a reader that reconnects at its position every few notifications reads all, and each once", {
  timeout: 90_000,
}, async (context) => {
  const db = context.use(await connect(context.url));
  const writers = await Promise.all(Array.from({ length: 8 }, () => context.client()));
  const until = performance.now() + patient(2000);
  const writing = Promise.all(writers.map(async (writer) => {
    while (performance.now() < until) {
      const size = 1 + Math.floor(Math.random() * 8);
      const nap = (Math.random() * 0.02).toFixed(4);
      await writer.query(
        `begin; select hark.notify('c', '1') from generate_series(1, ${size});
         select pg_sleep(${nap}); ${Math.random() < 0.1 ? "rollback" : "commit"}`,
      );
    }
  }));
  const ids: number[] = [];
  let last: Notification | undefined;
  let done = false;
  writing.then(() => done = true, () => done = true);
  for (let turn = 0;; turn++) {
    const ending = done;
    const from = last === undefined ? "beginning" : { position: last.position! };
    const most = ending ? Infinity : 1 + Math.floor(Math.random() * 40);
    let count = 0;
    let repeats = false;
    const onResume = (started: { repeats: boolean }) => repeats = started.repeats;
    for await (const n of subscribe(db, "c", { from, follow: false, pageSize: 16, onResume })) {
      ids.push(n.id);
      last = n;
      if (++count >= most) break;
    }
    assert(!repeats, "the marks of the last minute are there");
    // As if hours went by: what is not the newest is thinned.
    if (turn % 5 === 4) await thin(context.sql);
    if (ending) break;
  }
  await within(writing, { what: "the writers to end" });
  const truth = await context.sql("select id from hark.log order by id");
  assert.deepEqual(ids.toSorted((a, b) => a - b), truth.map(({ id }) => Number(id)));
});

/** Removes the marks that nothing needs, but not those of the last moment: few transactions ran in them. */
async function thin(sql: (text: string) => Promise<unknown[]>): Promise<void> {
  await sql(
    "delete from hark.marks where cardinality(stragglers) < 3 and number > 0 " +
      "and number < (select max(number) from hark.marks)",
  );
}

Deno.test("a subscription that looks a hundred times a second has about one mark a second stored", async () => {
  await using server = await ownServer();
  await using db = await connect(server.url);
  const ready = Promise.withResolvers<void>();
  await using reading = new Reading(db, "c", { onReady: ready.resolve });
  await ready.promise;
  const client = await server.client();
  const marks = async () =>
    Number((await client.query("select count(*) from hark.marks")).rows[0].count);
  const [before, began] = [await marks(), performance.now()];
  let published = 0;
  while (performance.now() - began < 2000 || published < 50) {
    await client.query("select hark.notify('c')");
    await reading.inbox.atLeast(++published);
  }
  const seconds = (performance.now() - began) / 1000;
  const stored = await marks() - before;
  assert.ok(stored >= 1 && stored <= 2 * seconds + 3, `${stored} marks in ${seconds} s`);
});

Deno.test("a position at a mark that was not stored is as good as another", async (t) => {
  await using server = await ownServer();
  await using db = await connect(server.url);
  const marks = async () => Number((await server.sql("select count(*) from hark.marks"))[0].count);
  for (const running of [0, 3, 25]) {
    await t.step(`beside ${running} transactions`, async () => {
      const begin = (await server.sql("select coalesce(max(id), 0) + 1 as id from hark.log"))[0].id;
      const clients = [];
      for (let n = 0; n < running; n++) {
        const client = await server.client();
        await client.query("begin; select hark.notify('other')");
        clients.push(client);
      }
      const before = await marks();
      await using reading = new Reading(db, ["c", "other"], { from: { id: Number(begin) } });
      const client = await server.client();
      for (let n = 1; n <= 40; n++) {
        await client.query("select hark.notify('c')");
        await reading.inbox.atLeast(n);
      }
      const stored = await marks() - before;
      for (const client of clients) await client.query("commit");
      await reading.inbox.atLeast(40 + running);
      const seen = reading.inbox.items;
      const positions = seen.map((n) => n.position!);
      assert.deepEqual(positions.toSorted(), positions, "they sort in reading order");
      if (running < 25) {
        assert(stored < 20, `${stored} marks were stored for 40 looks`);
        // Their content is in the positions.
        await server.sql(
          "delete from hark.marks where number > 0 and number < (select max(number) from hark.marks)",
        );
      }
      for (const [at, position] of positions.entries()) {
        let repeats: boolean | undefined;
        const rest: number[] = [];
        const options = {
          from: { position },
          follow: false,
          onResume: (resumed: SubscriptionResume) => repeats = resumed.repeats,
        };
        for await (const { id } of subscribe(db, ["c", "other"], options)) rest.push(id);
        const wanted = seen.slice(at + 1).map(({ id }) => id);
        const inOrder = (ids: number[]) => ids.toSorted((a, b) => a - b);
        assert.deepEqual(inOrder(rest), inOrder(wanted), `from ${at}: ${position}`);
        assert.equal(repeats, false, position);
      }
    });
  }
});
