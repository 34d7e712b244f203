/** One notification that cannot be read costs one notification, whichever worker reads it. */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type ConsumerOptions,
  deadLetters,
  type Notification,
  status,
  subscribe,
  watch,
} from "../../mod.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { output } from "../cli/_support/hark.ts";
import { Running } from "../faults/_support/running.ts";
import { type Kind, notify, oneDeadLetter, stage } from "./_support/unreadable.ts";

/** A byte above 127, as a text of the database's encoding. */
const byte = (encoding: string) => `convert_from('\\x81'::bytea, '${encoding}')`;

/** Removes the stored chunks of the payloads or headers with a text of 20,000 characters. */
async function damage({ sql }: TestContext): Promise<void> {
  for (
    const { toast } of await sql(
      `select c.reltoastrelid::regclass::text as toast from pg_class c
      where c.relnamespace = 'hark'::regnamespace and c.relname ~ '^(log_\\d+|waiting|delayed)$'`,
    )
  ) {
    await sql(`set allow_system_table_mods = on;
      update pg_class set relkind = 'r' where oid = '${toast}'::regclass;
      delete from ${toast};
      update pg_class set relkind = 't' where oid = '${toast}'::regclass;
      reset allow_system_table_mods`);
    await sql(`vacuum ${toast}`);
  }
}

/** A text that is neither compressed nor kept in the row. */
const noise = "(select string_agg(md5(n::text), '') from generate_series(1, 625) n)";

const kinds: readonly Kind[] = [
  {
    what: "bytes that are no UTF-8 in a payload",
    options: { encoding: "SQL_ASCII" },
    publish: notify(`jsonb_build_object('name', ${byte("SQL_ASCII")})`, "'k'"),
    error: /cannot be read: invalid byte sequence for encoding "UTF8": 0x81/,
  },
  {
    what: "bytes that are no UTF-8 in a key",
    options: { encoding: "SQL_ASCII" },
    publish: notify("'{}'", byte("SQL_ASCII")),
    isShown: true,
    error: /cannot be read: its key or channel cannot be converted to UTF-8/,
  },
  {
    what: "a character that UTF-8 has not",
    options: { encoding: "WIN1252" },
    publish: notify("'{}'", "'k'", `jsonb_build_object('name', ${byte("WIN1252")})`),
    error: /cannot be read: character with byte sequence 0x81 in encoding "WIN1252" has no equiv/,
  },
  {
    what: "a payload of which a part is lost",
    publish: notify(`to_jsonb(${noise})`, "'k'"),
    damage,
    error: /cannot be read: (missing|unexpected) chunk number/,
  },
];

const [bytes, key] = kinds as [Kind, Kind];
const damaged = kinds.at(-1)!;

for (const kind of kinds) {
  test(
    `${kind.what}: one dead letter, and all others are handled`,
    kind.options ?? {},
    (context) => oneDeadLetter(context, kind),
  );
}

for (const kind of [bytes, key, damaged]) {
  test(
    `a subscription and \`hark tail\` go on past ${kind.what}`,
    kind.options ?? {},
    async (context) => {
      const id = await stage(context, kind);
      const db = context.use(await connect(context.url));
      const read: unknown[] = [];
      for await (const n of subscribe(db, null, { from: "beginning" })) {
        read.push(n.problem === undefined ? n.payload : n.id);
        if (n.problem !== undefined) {
          assert.match(`cannot be read: ${n.problem}`, kind.error);
          assert.throws(() => n.payload, { code: "BAD_PAYLOAD" });
          assert.equal(JSON.parse(JSON.stringify(n)).problem, n.problem);
        }
        if (read.length === 3) break;
      }
      assert.deepEqual(read, [1, id, 2]);
      const tail = ["tail", "--from", "beginning", "--limit", "3"];
      for (const json of [[], ["--json"]]) {
        const shown = await output([...tail, ...json], { url: context.url });
        assert.match(shown, /cannot be|chunk number|invalid byte/);
      }
    },
  );
}

const ways: Record<string, ConsumerOptions> = {
  "a consumer with a filter": { filter: { payload: {} } },
  "a transactional consumer": { transactional: true },
  'a consumer with onFailure: "block"': { onFailure: "block" },
  "a consumer of batches": { batchSize: 10 },
  "a consumer of several partitions": { partitions: 4, concurrency: 4 },
};

for (const [who, options] of Object.entries(ways)) {
  test(`${who} goes on past what cannot be read`, async (context) => {
    for (const n of [1, 2]) await context.sql(notify(`jsonb_build_object('n', ${n})`, "'k'"));
    await context.sql(notify(`jsonb_build_object('n', ${noise})`, "'k'"));
    for (const n of [3, 4]) await context.sql(notify(`jsonb_build_object('n', ${n})`, "'k'"));
    await damage(context);
    const db = context.use(await connect(context.url));
    const handled: number[] = [];
    const consumer = new Consumer(db, {
      id: "c",
      channels: "c",
      ...options,
      ...options.batchSize === undefined
        ? { handle: (n: Notification) => void handled.push(n.payload.n) }
        : {
          handleBatch: (all: readonly Notification[]) =>
            void handled.push(...all.map((n) => n.payload.n)),
        },
    });
    assert.equal(await consumer.drain(), 4);
    assert.deepEqual(handled, [1, 2, 3, 4]);
    const [letter, ...more] = await deadLetters(db);
    assert.deepEqual([letter?.id, more], [3, []]);
    const { consumers: [row] } = await status(db);
    assert.equal(row!.unread, 0);
  });
}

test("what is damaged while it waits becomes a dead letter when it is due", async (context) => {
  await context.sql(notify(`to_jsonb(${noise})`, "'k'"));
  await context.sql(notify("'2'", "'k'"));
  const db = context.use(await connect(context.url));
  {
    await using failing = new Running(db, {
      handle: () => Promise.reject(new Error("not yet")),
      retry: { initial: 600_000 },
    });
    await until(async () => (await context.sql("select from hark.waiting")).length === 2);
    assert.equal(failing.inbox.items.length, 1);
  }
  await damage(context);
  await context.sql("update hark.waiting set due_at = now()");
  await using running = new Running(db, {});
  await until(() => running.payloads.includes(2));
  await until(async () => (await deadLetters(db)).length === 1);
  assert.deepEqual(running.payloads, [2]);
});

test(
  "a watched row with a byte that is no UTF-8 costs one notification",
  { encoding: "SQL_ASCII" },
  async (context) => {
    const { sql } = context;
    const db = context.use(await connect(context.url));
    await sql("create table people (id integer primary key, name text)");
    await watch(db, "people", { channel: "c" });
    await sql(`insert into people values (1, 'Ada'), (2, ${byte("SQL_ASCII")}), (3, 'Grace')`);
    await using running = new Running(db, {});
    await until(() => running.inbox.items.length === 2);
    assert.deepEqual(running.inbox.items.map((n) => n.recordId), [1, 3]);
    await until(async () => (await deadLetters(db)).length === 1);
    const [letter] = await deadLetters(db);
    assert.deepEqual([letter!.id, letter!.key], [2, "2"]);
    assert.match(letter!.error!, /invalid byte sequence/);
  },
);

test("a damaged delayed notification keeps no other from being delivered", async (context) => {
  const { sql } = context;
  await sql(
    `select hark.notify_at('c', to_jsonb(${noise}), deliver_at => now() + interval '1 hour')`,
  );
  for (const n of [1, 2]) {
    await sql("select hark.notify_at('c', $1::jsonb, deliver_at => now() + interval '1 hour')", [
      n,
    ]);
  }
  await damage(context);
  await sql("update hark.delayed set deliver_at = now()");
  const db = context.use(await connect(context.url));
  await using running = new Running(db, {});
  await until(() => running.inbox.items.length === 2);
  assert.deepEqual(running.payloads, [1, 2]);
  const [row] = await sql(
    "select deliver_at > now() + interval '1 hour' as later from hark.delayed",
  );
  assert.equal(row.later, true, "it is tried again");
});
