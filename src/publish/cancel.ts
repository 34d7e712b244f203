/**
 * Taking back what was to be published later.
 *
 * @module
 */

import { bad } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { queryable } from "./notify.ts";

/**
 * Takes back a notification that was published with `delay` or `deliverAt`, as part of the transaction
 * `db` is in. Its dedupe key is free again. Where it is just being delivered, this waits for that.
 *
 * Numbers are no secret: a role that may publish can take back what another role has delayed.
 *
 * @param number What {@linkcode notify} returned for it.
 * @returns Whether it was still waiting; false where it has been delivered or taken back.
 * @throws {HarkError} `BAD_OPTION` where `number` is not a whole number of at least 1; from the server
 * as {@linkcode notify}.
 * @example
 * ```ts
 * import { cancelDelayed, connect, notify } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const number = await notify(db, "reminders", { order: 42 }, { delay: 3_600_000 });
 * const taken = await cancelDelayed(db, number);
 * console.log(taken ? "taken back" : "too late");
 * ```
 */
export async function cancelDelayed(db: Queryable, number: number): Promise<boolean> {
  queryable(db);
  if (!Number.isSafeInteger(number) || number < 1) {
    bad("number", number, "Give what notify() returned for the delayed notification.");
  }
  return await translated(async () => {
    const { rows } = await db.query(
      "select hark.cancel_delayed($1::bigint) as cancelled",
      [number],
    );
    return rows[0].cancelled;
  });
}
