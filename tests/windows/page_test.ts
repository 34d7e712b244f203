/** What a page of a window holds, and how much it may cost. */

import assert from "node:assert/strict";
import { type PageLimits, RegisteredReader, UnregisteredReader } from "./_support/reader.ts";
import { type Lab, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

async function reading(lab: Lab, limits: PageLimits, channels: string[] | null = ["c"]) {
  return await UnregisteredReader.open(await lab.client(), channels, undefined, limits);
}

const rows: Staging = {
  promise: "a page holds no more rows than asked for",
  stage: async (lab) => {
    await lab.publish(25);
    const reader = await reading(lab, { rows: 10 });
    const sizes = [];
    for (let n = 0; n < 4; n++) sizes.push((await reader.page()).rows.length);
    assert.deepEqual(sizes, [10, 10, 5, 0]);
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const bytes: Staging = {
  promise:
    "a page ends with the row that passes its bytes, which are counted as sent, not as stored",
  breaks: [
    {
      rule: "when bytes do not count",
      in: "hark.page",
      from: "bytes >= bytes_wanted or",
      to: "",
    },
    {
      rule: "when they count as stored",
      in: "hark.page",
      from: "octet_length(c.payload_text)",
      to: "pg_column_size(r.payload)",
    },
  ],
  stage: async (lab) => {
    await lab.sql(
      "select hark.notify('c', to_jsonb(repeat('x', 100000))) from generate_series(1, 10)",
    );
    const reader = await reading(lab, { bytes: 250_000 });
    const page = await reader.page();
    assert.ok(page.rows.length >= 1 && page.rows.length <= 3, `${page.rows.length} rows of 100 kB`);
    while ((await reader.page()).rows.length > 0);
    await assertExactlyOnce(reader.client, reader.delivered);
    const small = await reading(lab, { bytes: 1 });
    assert.equal((await small.page()).rows.length, 1);
    assert.equal((await small.page()).rows.length, 1);
  },
};

const smallBytes: Staging = {
  promise: "small payloads count as well, up to the row that passes the bytes of a page",
  breaks: [
    {
      rule: "when a page of what is stored as it is does not count them",
      in: "hark.page",
      from: "sum(k.stored) <= bytes_wanted and ",
      to: "",
    },
    {
      rule: "when one that is stored compressed does not make a page be measured",
      in: "hark.page",
      from: "pg_column_compression(f.payload) is null",
      to: "true",
    },
  ],
  stage: async (lab) => {
    await lab.sql(
      "select hark.notify('c', to_jsonb(repeat('x', 100))) from generate_series(1, 50)",
    );
    const reader = await reading(lab, { bytes: 2_000 });
    let pages = 0;
    for (let size; (size = (await reader.page()).rows.length) > 0; pages++) {
      assert.ok(size <= 10, `${size} rows of more than 200 bytes`);
    }
    assert.ok(pages <= 8, `${pages} pages for 50 rows`);
    await lab.sql(
      "select hark.notify('c', to_jsonb(repeat('x', 50000))) from generate_series(1, 9)",
    );
    const compressed = await reading(lab, { bytes: 100_000 });
    for (let size; (size = (await compressed.page()).rows.length) > 0;) {
      assert.ok(size <= 53, `${size} rows`);
    }
    await assertExactlyOnce(compressed.client, compressed.delivered);
  },
};

/** What reading a page looked at. */
async function looked(reader: UnregisteredReader): Promise<{ fetched: number; scans: number }> {
  const so = async () => {
    const { rows: [row] } = await reader.client.query(
      `select sum(coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0)) as fetched,
         sum(coalesce(seq_scan, 0)) as scans
       from pg_stat_xact_user_tables where schemaname = 'hark' and relname ~ '^log'`,
    );
    return { fetched: Number(row.fetched), scans: Number(row.scans) };
  };
  await reader.client.query("begin");
  const before = await so();
  await reader.page();
  const after = await so();
  await reader.client.query("commit");
  return { fetched: after.fetched - before.fetched, scans: after.scans - before.scans };
}

const rareChannel: Staging = {
  promise: "a reader of a rare channel gets each page promptly, moved past what it does not want",
  breaks: [{
    rule: "when the rows looked at are not bounded",
    in: "hark.page",
    from: "          limit scanned\n",
    to: "\n",
  }],
  stage: async (lab) => {
    for (let n = 0; n < 4; n++) {
      await lab.publish(5_000);
      await lab.publish(1, "rare");
    }
    await lab.sql("analyze hark.log");
    const reader = await reading(lab, { scanned: 1_000 }, ["rare"]);
    let before = 0;
    for (let pages = 0; pages < 21; pages++) {
      const { fetched, scans } = await looked(reader);
      assert.equal(scans, 0, "the log is read by its primary key, never whole");
      assert.ok(fetched <= 4_000, `a page looked at ${fetched} rows`);
      const { lastId } = reader.position;
      assert.ok(lastId! <= before + 1_000);
      before = lastId!;
    }
    await assertExactlyOnce(reader.client, reader.delivered, ["rare"]);
  },
};

const hole: Staging = {
  promise: "a hole of cleaned ids is crossed in one page",
  stage: async (lab) => {
    await lab.publish(5_000);
    await lab.sql("delete from hark.log where id between 3 and 4998");
    const reader = await reading(lab, { scanned: 10 });
    assert.deepEqual((await reader.page()).rows.map(({ id }) => id), [1, 2, 4999, 5000]);
  },
};

const oneWindowOnly: Staging = {
  promise: "what commits while a window is being read is read in the next, once",
  breaks: [{
    rule: "when a window takes whatever has committed by now",
    in: "hark.page",
    from: "s.xid = any (finished)) and pg_visible_in_snapshot(s.xid, ended)",
    to: "s.xid = any (finished))",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"], undefined, {
      rows: 1,
    });
    await lab.publish(1);
    const late = await lab.writer();
    await late.notify();
    await lab.publish(1);
    await reader.step();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
    assert.deepEqual(reader.delivered.map(({ id }) => id), [1, 3, 2]);
  },
};

const stragglerRows: Staging = {
  promise: "a transaction that ends late brings its own rows only, those and no others twice",
  breaks: [
    {
      rule: "when a window takes all from where it begins",
      in: "hark.page",
      from: "(s.xid >= next_xid or s.xid = any (finished)) and",
      to: "",
    },
    {
      rule: "when it takes only what is younger than the snapshot before",
      in: "hark.page",
      from: "s.xid = any (finished)",
      to: "false",
    },
    {
      rule: "when it begins at the floor whatever has ended",
      in: "hark.page",
      from: "least(seen.floor, min(t.low))",
      to: "seen.floor",
    },
  ],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const late = await lab.writer();
    await late.notify();
    for (let n = 0; n < 3; n++) {
      await lab.publish(5);
      await reader.window();
    }
    await late.notify();
    await late.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
    assert.deepEqual(reader.delivered.slice(-2).map(({ id }) => id), [1, 17]);
  },
};

const savepoints: Staging = {
  promise: "what is published in a savepoint is read, what is rolled back to one is not",
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const writer = await lab.writer();
    const number = await writer.number();
    await writer.client.query("savepoint a");
    await writer.notify("kept");
    await writer.client.query("savepoint b");
    await writer.notify("dropped");
    await writer.client.query("rollback to b; savepoint d");
    await writer.notify("kept too");
    await reader.window();
    await lab.publish(1);
    await reader.window();
    await writer.commit();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
    assert.deepEqual(reader.delivered.map(({ payload }) => payload), [{}, "kept", "kept too"]);
    assert.deepEqual(await lab.sql("select distinct xid::text from hark.log where id in (1, 3)"), [{
      xid: number,
    }]);
  },
};

const removal: Staging = {
  promise:
    "a page that ends after scanned rows passes none over, though rows are removed at that time",
  breaks: [{
    rule: "when its end is looked for in a later statement",
    in: "hark.page",
    from: "last_id := coalesce(scanned_to, top);",
    to: `perform pg_sleep(0.05);
      select coalesce((select l.id from hark.log l where l.id > read_id and l.id <= top
        order by l.id offset scanned - 1 limit 1), top) into last_id;`,
  }],
  stage: async (lab) => {
    await lab.sql(
      "select hark.notify(case n % 4 when 0 then 'c' else 'filler' end) from generate_series(1, 20000) n",
    );
    const reader = await reading(lab, { rows: 100_000, scanned: 4000 });
    let over = false;
    const draining = reader.drain().finally(() => over = true);
    while (!over) {
      const { lastId, afterId } = reader.position;
      await lab.sql(
        `delete from hark.log where id in (select l.id from hark.log l
          where l.channel = 'filler' and l.id > $1 order by l.id limit 100)`,
        [lastId ?? afterId],
      );
    }
    await draining;
    await assertExactlyOnce(reader.client, reader.delivered.filter((one) => one.channel === "c"), [
      "c",
    ]);
  },
};

stagings("a page is bounded and a window is exact", [
  removal,
  rows,
  bytes,
  smallBytes,
  rareChannel,
  hole,
  oneWindowOnly,
  stragglerRows,
  savepoints,
]);
