/**
 * What every driver of docs/guide/drivers.md promises a program that publishes through it. Each is the
 * real package. Neon's posts to a stand-in of its endpoint, which runs the statements on a real server.
 */

import assert from "node:assert/strict";
import {
  cancelDelayed,
  migrate,
  notify,
  notifyMany,
  type Queryable,
  seek,
  status,
} from "../../mod.ts";
import { publish } from "../../src/publish/notify.ts";
import { harkError, notifyManyStatement, notifyStatement } from "../../src/publish/mod.ts";
import type { Statement } from "../../src/publish/statement.ts";
import { test } from "../harness/mod.ts";
import { both } from "./_support/any_driver.ts";
import { type Driver, drivers, type Run } from "./_support/real_drivers.ts";

/** What JSON holds, and some drivers read as something else. */
const payloads: readonly unknown[] = [
  null,
  true,
  0,
  -1.5e-300,
  Number.MAX_SAFE_INTEGER,
  "",
  '{"text": "of JSON"}',
  "null",
  [],
  [1, [2, [3]], null],
  ["text"],
  {},
  { "": { "a b": ["\n\t\\\"'"] } },
  { emoji: "👩‍👩‍👧", right: "\u202e", high: "\u{10ffff}" },
  { long: "x".repeat(100_000) },
];

/** What quoting, numbering or naming parameters by hand would change. */
const hostile = [
  "'; drop table hark.log; --",
  '"$1" $2::text ? ?? ?::jsonb :name :"name" @name %s %L {} ${x}',
  "\\ \\\\ \\' E'\\x41' \u2028 /* */ $$ $body$",
];

for (const [name, open] of Object.entries(drivers)) {
  test(`${name} publishes as promised`, async (context) => {
    const { t, database } = context;
    await using driver = await open(context);
    // PGlite is a database of its own.
    const sql = name === "PGlite"
      ? async (text: string, values?: unknown[]) => (await driver.db.query(text, values)).rows
      : context.sql;
    if (name === "PGlite") await migrate(driver.db);
    await sql("create table orders (id integer primary key)");
    const log = (columns: string, channel: string) =>
      sql(`select ${columns} from hark.log where channel = $1 order by id`, [channel]);

    await t.step("a notification commits with the user's rows, or is rolled back", async () => {
      await inTransaction(driver, [
        (run) => run("insert into orders values (1)"),
        await notifyStatement("c", 1),
        await notifyManyStatement([{ channel: "c", payload: 2 }, { channel: "c", payload: 3 }]),
      ], (hark) => both(hark, 1));
      // The user's own error stays the driver's.
      await assert.rejects(
        inTransaction(driver, [
          await notifyStatement("c", 100),
          (run) => run("insert into orders values (1)"),
        ], (hark) => both(hark, 100)),
        (error: Error) => {
          assert.notEqual(error.name, "HarkError");
          assert.match(`${error.message} ${(error.cause as Error)?.message}`, /orders_pkey/);
          return true;
        },
      );
      assert.deepEqual(await log("payload", "c"), [1, 2, 3].map((payload) => ({ payload })));
      assert.deepEqual(await sql("select id from orders"), [{ id: 1 }]);
    });

    await t.step("many are published in their order, all or none", async () => {
      const many = Array.from({ length: 100 }, (_, n) => ({ channel: "many", payload: n }));
      const ids = await notifyMany(driver.db, many);
      assert.deepEqual(ids, ids.toSorted((a, b) => a - b));
      await assert.rejects(notifyMany(driver.db, [...many, { channel: "" }]), {
        code: "BAD_CHANNEL",
      });
      assert.deepEqual(await log("payload", "many"), many.map(({ payload }) => ({ payload })));
    });

    await t.step("a dedupe key publishes once", async () => {
      const first = await publish(driver.db, "once", 1, { dedupe: "k'1" });
      const second = await publish(driver.db, "once", 2, { dedupe: "k'1" });
      assert.deepEqual([first.isDuplicate, second.isDuplicate], [false, true]);
      assert.equal(second.id, first.id);
      assert.deepEqual(await log("payload", "once"), [{ payload: 1 }]);
    });

    await t.step("a delayed one is kept, and can be cancelled", async () => {
      const options = { delay: "1h" };
      const [kept, cancelled] = await notifyMany(driver.db, [
        { channel: "later", payload: { n: 1 }, ...options },
        { channel: "later", payload: { n: 2 }, ...options },
      ]);
      assert.equal(await cancelDelayed(driver.db, cancelled!), true);
      assert.equal(await cancelDelayed(driver.db, cancelled!), false);
      const delayed = await sql("select number::integer, payload from hark.delayed");
      assert.deepEqual(delayed, [{ number: kept, payload: { n: 1 } }]);
    });

    await t.step("JSON comes back as it was given", async () => {
      for (const payload of payloads) await notify(driver.db, "json", payload);
      await notifyMany(driver.db, payloads.map((payload) => ({ channel: "json", payload })));
      const stored = (await log("payload", "json")).map(({ payload }) => payload);
      assert.deepEqual(stored, [...payloads, ...payloads]);
    });

    await t.step("text that looks like SQL is text", async () => {
      for (const text of hostile) {
        await notify(driver.db, text, text, { key: text, headers: { [text]: text } });
        await notifyMany(driver.db, [{ channel: text, payload: [text], key: text }]);
        assert.deepEqual(await log("payload, key, headers", text), [
          { payload: text, key: text, headers: { [text]: text } },
          { payload: [text], key: text, headers: null },
        ]);
      }
    });

    await t.step("errors have their codes, and the server's words", async () => {
      const role = `${database}_weak`;
      await sql(`create role ${role}`);
      try {
        await refused(driver, `set local role ${role}`, {
          code: "NO_PERMISSION",
          message: /^permission denied for schema hark\. .*select hark\.grant_publish/,
        });
      } finally {
        await sql(`drop role ${role}`);
      }
      await refused(driver, "alter schema hark rename to gone", {
        code: "NO_SCHEMA",
        message: /Run `hark init`/,
      });
      await assert.rejects(seek(driver.db, "unknown", "now"), { code: "NO_CONSUMER" });
      await status(driver.db);
    });

    await t.step("ids beyond 32 bits are exact, and beyond 53 bits refused", async () => {
      const { pg_get_serial_sequence: ids } =
        (await sql("select pg_get_serial_sequence('hark.log', 'id')"))[0];
      const at = (id: bigint) =>
        sql("select setval($1::text::regclass, $2::text::bigint)", [
          ids ?? "hark.log_id_seq",
          String(id),
        ]);
      await at(2n ** 40n);
      assert.equal(await notify(driver.db, "ids"), 2 ** 40 + 1);
      assert.deepEqual(await notifyMany(driver.db, [{ channel: "ids" }]), [2 ** 40 + 2]);
      await at(2n ** 53n);
      await assert.rejects(notify(driver.db, "ids"), { code: "DATABASE" });
    });
  });
}

/** Publishes in a transaction of the driver: by a function, or as a list of statements. */
async function inTransaction(
  driver: Driver,
  list: readonly (Statement | ((run: Run) => Promise<unknown>))[],
  work: (hark: Queryable) => Promise<unknown>,
): Promise<void> {
  if (driver.transaction !== undefined) {
    return void await driver.transaction(async (hark, run) => {
      let published = false;
      for (const one of list) {
        if (typeof one === "function") await one(run);
        else if (!published) {
          published = true;
          await work(hark);
        }
      }
    });
  }
  const statements: Statement[] = [];
  for (const one of list) {
    if (typeof one !== "function") statements.push(one);
    else await one((text) => Promise.resolve(statements.push({ text, values: [] })));
  }
  await driver.list!(statements);
}

/** Publishing fails with this error after a statement in the same transaction, which is rolled back. */
async function refused(driver: Driver, first: string, expected: object): Promise<void> {
  if (driver.transaction === undefined) {
    const list = [{ text: first, values: [] }, await notifyStatement("c")];
    const failed = await driver.list!(list).catch(harkError);
    return await assert.rejects(Promise.reject(failed), { name: "HarkError", ...expected });
  }
  const done = new Error("done");
  await assert.rejects(
    driver.transaction(async (hark, run) => {
      await run(first);
      await assert.rejects(notify(hark, "c"), { name: "HarkError", ...expected });
      await assert.rejects(notify(hark, "c"), {
        code: "DATABASE",
        message: /^current transaction is aborted/,
      });
      throw done;
    }),
    (error) => error === done,
  );
}
