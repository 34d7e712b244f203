/**
 * Not waiting for a table for long.
 *
 * @module
 */

import { wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translate } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import type { LockOptions } from "./options.ts";

/** The time to wait, in ms. */
export function lockTimeout({ lockTimeout }: LockOptions): number {
  return wholeNumber("lockTimeout", lockTimeout, 5000, 1, 86_400_000);
}

/**
 * Asks for what locks a table, by an expression, in one statement, as that is a transaction of its own on any
 * driver. In a transaction of the caller's the setting is as before once it is done.
 */
export async function askLocking(
  db: Queryable,
  expression: string,
  values: readonly unknown[],
  wait: number,
  table: string,
): Promise<unknown> {
  const last = values.length + 1;
  // Each step reads what the one before gave, so that the planner can neither turn them around nor leave one out.
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
    if ((translated.cause as { code?: unknown } | undefined)?.code !== "55P03") throw translated;
    throw new HarkError(
      "TIMEOUT",
      `the table ${table} was not free of transactions that write to it within ${wait} ms`,
      {
        cause: translated.cause,
        remedy: "Try again when none is open for so long, or give a longer lockTimeout.",
      },
    );
  }
}
