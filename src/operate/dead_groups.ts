/**
 * Dead letters in groups, by consumer and error.
 *
 * @module
 */

import { consumerName, toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { ask } from "../schema/ask.ts";
import { date, ms } from "./times.ts";

/** Dead letters of one consumer with errors that begin alike. */
export interface DeadGroup {
  /** The consumer. */
  readonly consumer: string;
  /**
   * How the errors begin, up to the first digit or quotation mark; null if they have no message. A
   * part of each error: `retry` and `discard` take it as `error`.
   */
  readonly error: string | null;
  /** How many there are. */
  readonly count: number;
  /** When the first of them was given up. */
  readonly firstAt: Date;
  /** When the last of them was given up. */
  readonly lastAt: Date;
  /** The highest id among them. */
  readonly example: number;
  /** Whether not all dead letters were looked at, so that there may be more. */
  readonly capped: boolean;
}

/**
 * Dead letters by consumer and by the beginning of their error, the largest group first: at most 100
 * groups of `maxScanned` dead letters.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate` or
 * `hark.grant_observe`; `NO_SCHEMA` and so on.
 */
export async function deadGroups(
  db: Queryable,
  consumer?: string,
  maxScanned: number = 50_000,
): Promise<DeadGroup[]> {
  const name = consumer === undefined ? null : consumerName(consumer);
  const rows = await ask(
    db,
    `select whose, beginning, letters, ${ms("first_at")}, ${ms("last_at")}, example, capped
    from hark.dead_groups($1::text, $2::integer)`,
    [name, maxScanned],
  );
  return rows.map((row) => ({
    consumer: row.whose,
    error: row.beginning,
    count: Number(row.letters),
    firstAt: date(row.first_at)!,
    lastAt: date(row.last_at)!,
    example: toId(row.example),
    capped: row.capped === true,
  }));
}
