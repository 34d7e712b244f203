/**
 * Cancelling delayed notifications.
 *
 * @module
 */

import { bad } from "../check.ts";
import { firstQuery, type Queryable, requireQueryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";

/**
 * Cancels a delayed notification: one that was published with `delay` or `deliverAt`. The
 * cancellation is part of the transaction that `db` is in, and frees the notification's dedupe key.
 * If a worker or a subscription is delivering the notification at this moment, the call waits for
 * the end of that transaction.
 *
 * A role cancels what it has delayed itself, and what a role has delayed whose rights it has. After
 * SET ROLE, that role counts, and otherwise the role that has logged in. A role with
 * `hark.grant_operate` cancels any.
 *
 * @param number The number that {@linkcode notify} returned for the delayed notification.
 * @returns Whether the notification was still delayed. False if it was already delivered or
 * cancelled.
 * @throws {HarkError} `BAD_OPTION` if `number` is not a whole number of at least 1. `NO_PERMISSION` if
 * another role has delayed it. Errors from the server are those of {@linkcode notify}.
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
  requireQueryable(db);
  if (!Number.isSafeInteger(number) || number < 1) {
    bad("number", number, "Give what notify() returned for the delayed notification.");
  }
  return await translated(async () => {
    const { rows } = await firstQuery(db, "select hark.cancel_delayed($1::bigint) as cancelled", [
      number,
    ]);
    return rows[0].cancelled;
  });
}
