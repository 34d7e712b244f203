/**
 * What publishing refuses.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type Database, HarkError, notify, notifyMany, type NotifyOptions } from "../../../mod.ts";
import type { TestContext } from "../../harness/mod.ts";

/** Tries options that are wrong on purpose, by both ways in: each is refused, nothing is sent. */
export async function refusals(
  context: TestContext,
  db: Database,
  cases: readonly (readonly [options: unknown, message: RegExp])[],
): Promise<void> {
  for (const [given, message] of cases) {
    const options = given as NotifyOptions;
    for (
      const attempt of [
        () => notify(db, "c", 1, options),
        () => notifyMany(db, [{ channel: "c" }, { channel: "c", ...options }]),
      ]
    ) {
      await assert.rejects(attempt, (error) => {
        assert(error instanceof HarkError, String(error));
        assert.equal(error.code, "BAD_OPTION");
        assert.match(error.message, message);
        assert(error.remedy, "it has a remedy");
        return true;
      });
    }
  }
  const rows = await context.sql(
    "select 1 from hark.log union all select 1 from hark.delayed union all select 1 from hark.dedupe",
  );
  assert.deepEqual(rows, []);
}
