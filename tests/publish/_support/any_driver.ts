/**
 * Publishing through any driver.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Consumer, notify, notifyMany, type Queryable } from "../../../mod.ts";

/** What a consumer gets. */
export async function drained(db: Queryable): Promise<unknown[]> {
  const seen: unknown[] = [];
  await new Consumer(db, { id: "c", channels: "c", handle: (n) => void seen.push(n.payload) })
    .drain();
  return seen;
}

/** Publishes three, by either way in. */
export const both = async (db: Queryable, n: number) => {
  const id = await notify(db, "c", n);
  const ids = await notifyMany(db, [{ channel: "c", payload: n + 1 }, {
    channel: "c",
    payload: n + 2,
  }]);
  assert.deepEqual([id, ...ids].map(Number.isSafeInteger), [true, true, true]);
  assert(id < ids[0]! && ids[0]! < ids[1]!);
};
