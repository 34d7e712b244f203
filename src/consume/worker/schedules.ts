/**
 * Publishes what is scheduled. Each worker does this for all consumers; the database lets one of
 * them publish each time.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { messageOf, translated } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { getLogger } from "../../log/logger.ts";
import { cronTimes } from "../../publish/cron.ts";

const logger = getLogger(["hark", "consumer"]);

/** A row of hark.next_schedules. */
interface Row {
  readonly name: string;
  readonly cron: string;
  readonly timezone: string;
  readonly due_ms: number;
  readonly wait_ms: number;
  readonly now_ms: number;
}

/** What one worker does for schedules. */
export class Schedules {
  /** When to look next, by `performance.now()`. */
  due = -Infinity;
  #restUntil = -Infinity;

  /** Takes from a heartbeat in how many ms the next schedule is due; null if there is none. */
  plan(next: number | null): void {
    this.due = Math.max(this.#restUntil, next === null ? Infinity : performance.now() + next);
  }

  /** Publishes the schedules that are due. Returns whether this worker has published any. */
  async publishDue(session: Queryable): Promise<boolean> {
    if (this.due > performance.now()) return false;
    const { rows } = await translated(() =>
      session.query(
        "select name, cron, timezone, due_ms, wait_ms, now_ms from hark.next_schedules()",
      )
    );
    let ran = 0;
    const isDue = (row: Row) => Number(row.wait_ms) <= 0;
    for (const row of (rows as Row[]).filter(isDue)) if (await this.#run(session, row)) ran++;
    const first: Row | undefined = rows[0];
    // If none of those that are due was this worker's, another worker is publishing them.
    const wait = first === undefined ? Infinity : !isDue(first) ? first.wait_ms : ran > 0 ? 0 : 100;
    this.due = Math.max(this.#restUntil, performance.now() + Number(wait));
    return ran > 0;
  }

  /** Publishes one schedule. Returns false if another worker has done so, or is doing it. */
  async #run(session: Queryable, row: Row): Promise<boolean> {
    let following: Date | undefined;
    let problem: string | null = null;
    try {
      [following] = await cronTimes(row.cron, row.timezone, new Date(Number(row.now_ms)));
    } catch (error) {
      if (!(error instanceof HarkError)) return this.#withoutParser(error);
      // SQL can store any pattern.
      problem = messageOf(error);
      logger.warn(
        "The schedule {name} publishes nothing any more: {problem} Store it anew to mend it",
        { name: row.name, problem },
      );
    }
    const { rows: [answer] } = await translated(() =>
      session.query(
        `select hark.run_schedule($1::text, $2::text, $3::text, $4::float8, $5::float8, $6::text) as ran`,
        [
          row.name,
          row.cron,
          row.timezone,
          Number(row.due_ms),
          following?.getTime() ?? null,
          problem,
        ],
      )
    );
    return answer.ran === true;
  }

  /** The parser could not be loaded. Another worker may have it. This one tries again later. */
  #withoutParser(error: unknown): false {
    logger.warn("Cannot load the parser of cron patterns; trying again in a minute: {reason}", {
      reason: messageOf(error),
    });
    this.#restUntil = performance.now() + 60_000;
    return false;
  }
}
