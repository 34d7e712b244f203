import assert from "node:assert/strict";
import postgres from "npm:postgres@3.4.9";
import {
  migrate,
  type Queryable,
  setContext,
  uninstall,
  unwatch,
  watch,
  watches,
  type WatchOptions,
  watchSql,
} from "../../mod.ts";
import { test } from "../harness/mod.ts";
import { emptyPGlite } from "../harness/pglite.ts";
import { users } from "./_support/users.ts";

Deno.test("any driver will do: PGlite", async () => {
  const lite = await emptyPGlite();
  await migrate(lite);
  await lite.query("create table users (id integer primary key, email text)");
  await lite.query("insert into users values (1, 'a')");
  await watchedBy(lite);
});

test("any driver will do: postgres.js, wrapped in a line", async (c) => {
  await c.sql("create table users (id integer primary key, email text)");
  await c.sql("insert into users values (1, 'a')");
  const sql = postgres(c.url, {
    max: 1,
    connection: { application_name: c.appName },
    onnotice: () => {}, // of all that uninstall drops
  });
  try {
    await watchedBy({
      query: async (text, values = []) => ({ rows: await sql.unsafe(text, values as string[]) }),
    });
  } finally {
    await sql.end();
  }
});

/** All there is, on a table of users with one row. */
async function watchedBy(db: Queryable): Promise<void> {
  const options: WatchOptions = {
    ifChanged: ["email"],
    headers: { a: 1 },
    maxBytes: 5000,
    snapshot: true,
  };
  assert.match(await watchSql(db, users), /create or replace trigger/);
  const made = await watch(db, users, options);
  assert.deepEqual([made.outcome, made.snapshot], [
    "created",
    { published: 1, total: 1, done: true },
  ]);
  assert.equal((await watch(db, users, options)).outcome, "unchanged");
  await setContext(db, { b: 2 }, { forSession: true });
  await db.query("update users set email = 'b'");
  const { rows } = await db.query("select headers::text as headers from hark.log order by id");
  assert.deepEqual(rows.map(({ headers }) => JSON.parse(headers)), [{ a: 1 }, { a: 1, b: 2 }]);
  const [found] = await watches(db);
  assert.deepEqual([found?.drift, found?.snapshotCount, found?.exists], [[], 1, true]);
  assert(found!.snapshotDoneAt! >= found!.createdAt);
  assert.equal(await unwatch(db, users), true);
  assert.equal(await unwatch(db, users), false);
  assert.deepEqual(await uninstall(db), { left: [] });
}
