import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type Database,
  type HarkError,
  installedVersion,
  migrate,
  notify,
  notifyMany,
  requireSchema,
  schemaVersion,
  subscribe,
} from "../../mod.ts";
import { messageOf } from "../../src/database/translate.ts";
import { dropInUse, test } from "../harness/mod.ts";

const consumer = (db: Database) => new Consumer(db, { id: "c", channels: "c", handle() {} });

/** Every way in that needs a schema of the right version. */
const readers: [string, (db: Database) => Promise<unknown>][] = [
  ["Consumer.run", (db) => consumer(db).run()],
  ["Consumer.drain", (db) => consumer(db).drain()],
  ["subscribe", (db) => subscribe(db, "c").next()],
  ["requireSchema", (db) => requireSchema(db)],
];
const publishers: typeof readers = [
  ["notify", (db) => notify(db, "c", 1)],
  ["notifyMany", (db) => notifyMany(db, [{ channel: "c" }])],
];

test(
  "without the schema every way in says so, with the remedy",
  { schema: false },
  async (context) => {
    const db = context.use(await connect(context.url));
    for (const [name, way] of [...readers, ...publishers]) {
      await assert.rejects(way(db), {
        name: "HarkError",
        code: "NO_SCHEMA",
        message: /"hark" is not installed in this database/,
        remedy: /hark init.*migrate\(db\)/,
      }, name);
    }
    assert.equal(await installedVersion(db), undefined);
    assert.deepEqual(await context.sql("select to_regnamespace('hark') as there"), [{
      there: null,
    }]);
  },
);

test("a schema that is newer than the program is refused by every way in", async (context) => {
  const db = context.use(await connect(context.url));
  const newer = "7.0.0";
  await context.sql("update hark.schema_version set version = $1", [newer]);
  for (const [name, way] of [...readers, ["migrate", migrate] as typeof readers[number]]) {
    await assert.rejects(way(db), {
      name: "HarkError",
      code: "SCHEMA_NEW",
      message: new RegExp(
        `has version ${newer}, but this program knows versions up to ${schemaVersion}`,
      ),
      remedy: /newer version of Hark/,
    }, name);
  }
  assert.equal(await installedVersion(db), newer);
  // Publishing goes on: a program that only publishes survives the upgrade of the others.
  for (const [, way] of publishers) await way(db);
  assert.deepEqual(await context.sql("select * from hark.consumers"), []);
});

test("a schema that is older than the program is refused by every reader", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("update hark.schema_version set version = '0.0.9'");
  for (const [name, way] of readers) {
    await assert.rejects(way(db), {
      name: "HarkError",
      code: "SCHEMA_OLD",
      message: new RegExp(`has version 0.0.9, but this program needs ${schemaVersion}`),
      remedy: /hark init.*migrate\(db\)/,
    }, name);
  }
  assert.deepEqual(await context.sql("select * from hark.consumers"), []);
});

test("a schema that goes away under a running consumer ends it, and says why", async (context) => {
  const db = context.use(await connect(context.url));
  const running = consumer(db).run();
  running.catch(() => {});
  const reading = subscribe(db, "c", { pollInterval: 50 }).next();
  reading.catch(() => {});
  await context.sql("select 1");
  await notify(db, "other", 1);
  for (;;) {
    const [row] = await context.sql("select owner from hark.partitions");
    if (row?.owner) break;
  }
  await dropInUse(context.sql);
  await assert.rejects(running, { code: "NO_SCHEMA" });
  await assert.rejects(reading, { code: "NO_SCHEMA" });
});

/** For each part of a worker's work a column that a newer schema might not have. */
const columns = {
  acknowledging: "partitions.handled",
  reading: "kept_marks.mark",
  leasing: "processes.lease_until",
};
for (const [work, column] of Object.entries(columns)) {
  test(`a schema that is upgraded under a consumer ends it, and says so: ${work}`, async (context) => {
    const db = context.use(await connect(context.url));
    const handled = Promise.withResolvers<void>();
    const running = new Consumer(db, {
      id: "c",
      channels: "c",
      lease: 1000,
      handle: () => handled.resolve(),
    })
      .run();
    running.catch(() => {});
    await notify(db, "c", 1);
    await handled.promise;
    // What a statement finds that had to wait for the upgrade.
    const [table, name] = column.split(".");
    await context.sql(
      `begin; alter table hark.${table} rename ${name} to other; update hark.schema_version set version = '7.0.0'; commit`,
    );
    await notify(db, "c", 2);
    const error: HarkError = await running.then(() => assert.fail(), (error) => error);
    assert.equal(error.code, "SCHEMA_NEW");
    assert.match(error.remedy!, /newer version of Hark/);
    assert.match(messageOf(error.cause), new RegExp(`${name}.* does not exist`));
  });
}
