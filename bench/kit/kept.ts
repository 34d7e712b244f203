/** A test of a consumer, with what the run before has kept. */

import assert from "node:assert/strict";
import { PGlite } from "npm:@electric-sql/pglite@0.5.16";
import { Consumer } from "@hark/postgres";
import { publishAndDrain, testDatabase } from "@hark/postgres/testing";

Deno.test("each order is billed", async () => {
  await using db = await testDatabase({ url: false, PGlite });
  const billed: number[] = [];
  const billing = new Consumer<{ id: number }>(db, {
    id: "billing",
    channels: "orders",
    handle: ({ payload }) => void billed.push(payload.id),
  });
  await publishAndDrain(db, billing, { payload: { id: 42 } });
  assert.deepEqual(billed, [42]);
});
