/**
 * For tests of your own handlers: a notification for a unit test, and a database for everything
 * else. The database runs inside the test's process, with nothing to install, or on a server that
 * you have.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Consumer } from "@hark/postgres";
 * import { publishAndDrain, testDatabase } from "@hark/postgres/testing";
 *
 * Deno.test("each order is billed", async () => {
 *   await using db = await testDatabase();
 *   const billed: number[] = [];
 *   const billing = new Consumer<{ id: number }>(db, {
 *     id: "billing",
 *     channels: "orders",
 *     handle: ({ payload }) => void billed.push(payload.id),
 *   });
 *   await publishAndDrain(db, billing, { payload: { id: 42 } });
 *   assert.deepEqual(billed, [42]);
 * });
 * ```
 *
 * @module
 */

export { handlerContext, type TestContext, type TestContextOptions } from "./context.ts";
export { type TestDatabase, testDatabase, type TestDatabaseOptions } from "./database.ts";
export { type Drained, publishAndDrain, type TestNotification } from "./drain.ts";
export { notification, type NotificationFacts } from "./notification.ts";
export type { PGliteClass, PGliteDatabase } from "./pglite.ts";
