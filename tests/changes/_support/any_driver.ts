/**
 * Watching through any driver.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  type Queryable,
  setContext,
  uninstall,
  unwatch,
  watch,
  watches,
  type WatchOptions,
  watchSql,
} from "../../../mod.ts";
import { users } from "./users.ts";

/** All there is, on a table of users with one row. */
export async function watchedBy(db: Queryable): Promise<void> {
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
