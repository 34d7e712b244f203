import assert from "node:assert/strict";
import { publishAndDrain, testDatabase } from "@hark/postgres/testing";
import { Hello } from "../consumers/hello.ts";

Deno.test("each new user is greeted", async () => {
  await using db = await testDatabase();
  const { handled, failed } = await publishAndDrain(
    db,
    new Hello(db),
    { payload: { name: "Ada" } },
  );
  assert.equal(handled, 1);
  assert.deepEqual(failed, []);
});
