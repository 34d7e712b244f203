/**
 * Limits how long Hark waits for the lock on a table.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { sqlState } from "../database/driver_error.ts";
import { translate } from "../database/translate.ts";
import { aDay, durationMs } from "../duration.ts";
import { HarkError } from "../errors.ts";
import type { LockOptions } from "./options.ts";

/** The lock timeout, in ms. */
export function lockTimeout({ lockTimeout }: LockOptions): number {
  return durationMs("lockTimeout", lockTimeout, 5000, { least: 1, most: aDay });
}

/**
 * Evaluates an expression that locks a table, with a lock timeout. One statement does everything,
 * because one statement is one transaction on any driver. Inside the caller's own transaction, the
 * statement restores the previous setting when it is done.
 */
export async function askLocking(
  db: Queryable,
  expression: string,
  values: readonly unknown[],
  wait: number,
  table: string,
): Promise<unknown> {
  const last = values.length + 1;
  // Each step reads the result of the step before, so that the planner can neither reorder nor skip
  // one.
  const sql = `with before (setting) as materialized (select current_setting('lock_timeout')),
    limited (setting, now) as materialized (
      select setting, set_config('lock_timeout', $${last}::text, true) from before
    ),
    done (setting, answer) as materialized (
      select setting, case when now is not null then ${expression} end from limited
    )
    select answer, set_config('lock_timeout', setting, true) as again from done`;
  try {
    return (await db.query(sql, [...values, `${wait}ms`])).rows[0].answer;
  } catch (error) {
    const translated = translate(error);
    if (sqlState(translated) !== "55P03") throw translated;
    throw new HarkError(
      "TIMEOUT",
      `could not lock table ${table} within ${wait} ms: transactions that write to it stay open`,
      {
        cause: translated.cause,
        remedy: "Try again when they have ended, or give a longer lockTimeout.",
      },
    );
  }
}
