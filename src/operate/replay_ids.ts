/**
 * Having consumers handle chosen notifications once more.
 *
 * @module
 */

import { bad, consumerName, knownOptions, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { ask } from "../schema/ask.ts";
import type { Whereabouts } from "./retry.ts";

/** Options of {@linkcode replayIds}. */
export interface ReplayIdsOptions {
  /** Only this consumer. All consumers unless given. */
  readonly consumer?: string;
}

/** What {@linkcode replayIds} did with one notification for one consumer. */
export interface ReplayedId {
  /** The consumer. */
  readonly consumer: string;
  /** The notification's id. */
  readonly id: number;
  /** Where the notification stood before. `"unread"`: it comes in its turn. */
  readonly place: Whereabouts;
  /** Whether it comes again because of this call. */
  readonly again: boolean;
}

/**
 * Has one consumer, or all of them, handle notifications once more. What a consumer has handled is
 * replayed. What it has failed on is tried at once: a dead letter starts with its first attempt. What
 * it has not read yet comes in its turn.
 *
 * Returns what was done for each consumer and notification, by name and id. Without `consumer`,
 * notifications that are not of a consumer's channels and filter are left out. A handled one that is
 * left is still in hand ahead of its consumer's position: call again in a moment.
 *
 * @param ids 1 to 10,000 ids of the log.
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate`;
 * `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, replayIds } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { consumer, id, again } of await replayIds(db, [41, 42])) {
 *   console.log(consumer, id, again);
 * }
 * ```
 */
export async function replayIds(
  db: Queryable,
  ids: readonly number[],
  options: ReplayIdsOptions = {},
): Promise<ReplayedId[]> {
  knownOptions("replayIds", options, ["consumer"]);
  const consumer = options.consumer === undefined ? null : consumerName(options.consumer);
  if (!Array.isArray(ids) || ids.length === 0 || ids.length > 10_000) {
    bad("ids", ids, "Give an array of 1 to 10,000 ids.");
  }
  ids.forEach((id) => wholeNumber("ids", id ?? NaN, 1, 1));
  const rows = await ask(
    db,
    "select whose, id, place, again from hark.replay_ids($1::text, $2::text::bigint[])",
    [consumer, `{${ids.join(",")}}`],
  );
  return rows.map((row) => ({
    consumer: row.whose,
    id: toId(row.id),
    place: row.place,
    again: row.again === true,
  }));
}
