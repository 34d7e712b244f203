/** A database of version 5, whose workers had no leases of their own, brought up to date while it is in use. */

import assert from "node:assert/strict";
import { connect, Consumer, migrate, notify, schemaVersion } from "../../mod.ts";
import { migrations } from "../../src/schema/bundle.ts";
import { bundleSql } from "../../src/schema/migrate.ts";
import { type Client, test, type TestContext } from "../harness/mod.ts";
import { role } from "./_support/role.ts";

const empty = { schema: false };
const owner = "00000000-0000-0000-0000-000000000005";

/** What was left behind in a database of version 5. */
interface Left {
  /** Ids that its worker has acknowledged. */
  readonly acknowledged: number[];
  /** An open transaction that has published two, before and after the worker's window was opened. */
  readonly late: Client;
  readonly position: string;
}

/** Installs versions 1 to 5, reads a part of a window as its worker did, and leaves that worker's lease. */
async function inMidWindow(context: TestContext): Promise<Left> {
  const client = await context.client();
  for (const { version, sql } of migrations) {
    if (version <= 5) await client.query(`begin; ${sql} commit;`);
  }
  await client.query("select hark.register('c', array['c'], 'beginning')");
  const { rows: [claimed] } = await client.query(
    "select * from hark.claim('c', 0, $1, null, 3600000)",
    [owner],
  );
  let position = claimed.position;
  const acknowledged: number[] = [];
  const read = async (rows: number, through: number | null) => {
    const { rows: page } = await client.query(
      `select r.id, r.position::text
       from hark.window('c', 0, $1, $2, $3::hark.position) w,
         lateral hark.window_read(w.position, w.channels, $4, 100000, 1000, null) r`,
      [owner, claimed.epoch, position, rows],
    );
    const end = page.pop()!;
    const done = page.map(({ id }) => Number(id)).filter((id) => through === null || id <= through);
    const { rows: [acked] } = await client.query(
      "select hark.acknowledge('c', 0, $1, $2, $3::hark.position, $4, 3600000, $5) as position",
      [owner, claimed.epoch, end.position, done.length, through],
    );
    position = acked.position;
    acknowledged.push(...done);
  };
  await client.query(
    "select hark.notify('c', to_jsonb(n), 'k' || n % 4) from generate_series(1, 10) n",
  );
  await read(100, null);
  const late = await context.client();
  await late.query("begin; select hark.notify('c', '\"late\"');"); // 11
  await client.query(
    "select hark.notify('c', to_jsonb(n), 'k' || n % 4) from generate_series(1, 10) n",
  );
  await client.query("select hark.notify('other')"); // 22
  await read(8, 16); // of the 8 the first 5 are done: ids 12 to 16
  await late.query("select hark.notify('c', '\"later\"')"); // 23
  await client.query(
    "select hark.notify('c', to_jsonb(n), 'k' || n % 4) from generate_series(1, 5) n",
  );
  await client.query(
    "select hark.record_failure('c', 0, $1, $2, 17, 3, 'it failed')",
    [owner, claimed.epoch],
  );
  assert.deepEqual(
    acknowledged,
    [...Array(10).keys()].map((n) => n + 1).concat(12, 13, 14, 15, 16),
  );
  return { acknowledged, late, position };
}

const ups: [string, (context: TestContext) => Promise<unknown>][] = [
  ["migrate()", async (context) => {
    const db = context.use(await connect(context.url));
    assert.deepEqual(await migrate(db), { from: 5, to: schemaVersion });
  }],
  ["bundleSql({ from: 5 })", async (context) => {
    await (await context.client()).query(bundleSql({ from: 5 }));
  }],
];

for (const [name, upgrade] of ups) {
  test(
    `${name} brings a database of version 5 up to date, and its consumer goes on exactly where it was`,
    empty,
    async (context) => {
      const { acknowledged, late, position } = await inMidWindow(context);
      await upgrade(context);
      const [kept] = await context.sql(
        "select position::text, owner, handled::int, partition from hark.partitions",
      );
      assert.deepEqual({ ...kept }, { position, owner: null, handled: 15, partition: 0 });
      assert.deepEqual(
        await context.sql(
          "select partitions, filter, transactional, generation::int from hark.consumers",
        ),
        [{ partitions: 1, filter: null, transactional: false, generation: 1 }],
      );
      const db = context.use(await connect(context.url));
      const seen: number[] = [];
      const consumer = () =>
        new Consumer(db, { id: "c", channels: "c", handle: (n) => void seen.push(n.id) });
      assert.equal(await consumer().drain(), 10, "nobody waits for the old worker's lease");
      assert.deepEqual(seen, [17, 18, 19, 20, 21, 24, 25, 26, 27, 28]);
      await late.query("commit");
      await notify(db, "c", 1);
      assert.equal(await consumer().drain(), 3);
      const log = await context.sql("select id::int from hark.log where channel = 'c' order by id");
      assert.deepEqual(
        [...acknowledged, ...seen].sort((a, b) => a - b),
        log.map(({ id }) => id),
        "everything once",
      );
    },
  );
}

test(
  "a worker of version 5 that is still there after the upgrade can move nothing",
  empty,
  async (context) => {
    const { position } = await inMidWindow(context);
    const db = context.use(await connect(context.url));
    await migrate(db);
    const old = await context.client();
    for (
      const call of [
        `hark.window('c', 0, '${owner}', 1, '${position}'::hark.position)`,
        `hark.acknowledge('c', 0, '${owner}', 1, '${position}'::hark.position, 1, 60000, null)`,
        `hark.renew('c', 0, '${owner}', 1, 60000)`,
        `hark.record_failure('c', 0, '${owner}', 1, 17, 4, 'x')`,
        `hark.release('c', 0, '${owner}', 1)`,
        `hark.claim('c', 0, '${owner}', null, 60000)`,
      ]
    ) {
      await assert.rejects(old.query(`select ${call}`), { code: "42883" }, call);
    }
    const [kept] = await context.sql("select position::text from hark.partitions");
    assert.equal(kept.position, position);
  },
);

test(
  "a publisher in the middle of its transaction neither holds up an upgrade nor loses what it publishes",
  empty,
  async (context) => {
    const { late } = await inMidWindow(context);
    const db = context.use(await connect(context.url));
    await migrate(db);
    await late.query("select hark.notify('c', '\"after the upgrade\"')");
    await late.query("commit");
    const seen: unknown[] = [];
    await new Consumer(db, { id: "c", channels: "c", handle: (n) => void seen.push(n.payload) })
      .drain();
    assert.deepEqual(
      seen.filter((payload) => typeof payload === "string").sort(),
      ["after the upgrade", "late", "later"],
    );
  },
);

test(
  "who could publish and consume before an upgrade can after it, and no one else",
  empty,
  async (context) => {
    await inMidWindow(context);
    const [publisher, consumer, nobody] = [
      await role(context),
      await role(context),
      await role(context),
    ];
    await context.sql("select hark.grant_publish($1)", [publisher.name]);
    await context.sql("select hark.grant_consume($1)", [consumer.name]);
    await migrate(context.use(await connect(context.url)));
    const [publishes, consumes, other] = [
      context.use(await connect(publisher.url)),
      context.use(await connect(consumer.url)),
      context.use(await connect(nobody.url)),
    ];
    const drain = (db: typeof consumes) =>
      new Consumer(db, { id: "c", channels: "c", handle() {} }).drain();
    await notify(publishes, "c", 1, { delay: 1 });
    await notify(publishes, "c", 1, { dedupe: { key: "k" } });
    assert.ok(await drain(consumes) >= 11);
    const denied = { code: "NO_PERMISSION" };
    await assert.rejects(drain(publishes), denied);
    await assert.rejects(notify(consumes, "c", 1), denied);
    await assert.rejects(notify(other, "c", 1), denied);
    await assert.rejects(drain(other), denied);
  },
);
