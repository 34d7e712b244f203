/**
 * Retrying and discarding what a consumer has failed on.
 *
 * @module
 */

import { bad, consumerName, knownOptions, show, toId } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translate, translated } from "../database/translate.ts";
import { errorAt, HarkError } from "../errors.ts";
import { numberText } from "../show.ts";
import { requireSchema } from "../schema/migrate.ts";
import { type DeadLetterFilter, filterNames, filterValues } from "./dead.ts";

/** Options of {@linkcode retry} and {@linkcode discard}: a filter, or `all`. */
export interface FailureChoice extends DeadLetterFilter {
  /** All waiting notifications and dead letters of the consumer. You have to say so explicitly. */
  readonly all?: true;
  /**
   * Only those that wait for their next attempt, or only dead letters.
   * @default {both}
   */
  readonly kind?: "waiting" | "dead";
}

/** Options of {@linkcode retry} and {@linkcode discard} that say how they go on. */
export interface FailureOptions {
  /** Callback after each transaction, with how many notifications it has been so far. */
  readonly onProgress?: (count: number) => unknown;
  /** When it aborts, the call ends after the current transaction. Another call takes what is left. */
  readonly signal?: AbortSignal;
}

/** How many notifications one transaction takes. */
const page = 5000;
/** The size of the dead letters that one transaction takes, in bytes as stored. */
const pageBytes = 32 * 1024 * 1024;

/**
 * Has a consumer try at once what it has failed on: notifications that wait for their next attempt,
 * and dead letters. Give a filter, or `all`. Returns how many will be tried.
 *
 * Takes 5,000 notifications in a transaction, so that workers need not wait long. If a transaction
 * fails, what the earlier ones took stays taken, and the error says how many that is. Another call
 * takes what is left. Inside your own transaction everything is part of that one.
 *
 * Running workers begin at once. A waiting notification keeps its number of attempts, and a dead
 * letter starts with its first. The order within a key stays: a notification behind a failed one of
 * its key comes after it, and the failed one is tried at once too. If the handler runs just then and
 * fails, the next attempt follows at once. A dead letter of which only the id is left stays a dead
 * letter.
 *
 * @throws {HarkError} `NO_CONSUMER`; `BAD_OPTION`, also if neither a filter nor `all` is given;
 * `NO_PERMISSION` without `hark.grant_operate`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, retry } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await retry(db, "billing", { error: "out of paper" }));
 * ```
 */
export async function retry(
  db: Queryable,
  consumer: string,
  which: FailureChoice,
  steps: FailureOptions = {},
): Promise<number> {
  return await change(db, "retry", consumer, which, steps);
}

/**
 * Gives up for good what a consumer has failed on: notifications that wait for their next attempt,
 * and dead letters. Give a filter, or `all`. Returns how many were removed. Takes 5,000
 * notifications in a transaction, as {@linkcode retry} does.
 *
 * Notifications that wait behind a discarded one of their key go on. A handler that runs for a
 * discarded notification goes on to its end. If it fails, it is not called again.
 *
 * @throws {HarkError} The errors of {@linkcode retry}.
 * @example
 * ```ts
 * import { connect, discard } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const month = new Date(Date.now() - 30 * 86_400_000);
 * console.log(await discard(db, "billing", { diedBefore: month }));
 * ```
 */
export async function discard(
  db: Queryable,
  consumer: string,
  which: FailureChoice,
  steps: FailureOptions = {},
): Promise<number> {
  return await change(db, "discard", consumer, which, steps);
}

async function change(
  db: Queryable,
  how: "retry" | "discard",
  consumer: string,
  which: FailureChoice,
  steps: FailureOptions,
): Promise<number> {
  const name = consumerName(consumer);
  const example = Array.isArray(which)
    ? `{ ids: ${show(which)} }`
    : "{ all: true } or { ids: [42] }";
  knownOptions(how, which, [...filterNames, "all", "kind"], example);
  const values = filterValues(which);
  const filtered = values.some((value) => value !== null);
  const { all, kind } = which;
  if (all !== undefined && all !== true) bad("all", all, "Give true, or leave it out.");
  if (kind !== undefined && kind !== "waiting" && kind !== "dead") {
    bad("kind", kind, 'Give "waiting" or "dead", or leave it out for both.');
  }
  if (filtered === (all === true)) {
    throw new HarkError(
      "BAD_OPTION",
      filtered
        ? "all and a filter contradict each other"
        : `${how} was called without a choice of notifications`,
      { remedy: "Give ids or another filter, or { all: true }." },
    );
  }
  knownOptions(how, steps, ["onProgress", "signal"], "{ onProgress: console.log }");
  await requireSchema(db);
  const died = which.diedAfter !== undefined || which.diedBefore !== undefined;
  const kinds = kind !== undefined ? [kind] : died ? ["dead"] : ["waiting", "dead"];
  const done = how === "retry" ? "retried" : "discarded";
  let count = 0;
  for (const one of kinds) {
    for (let from = which.fromId ?? null, more = true; more;) {
      if (steps.signal?.aborted === true) return count;
      const { rows: [row] } = await db.query(
        `select ${done} as count, through_id from hark.${how}_page($1::text, $2::text::bigint[], $3::text,
          $4::text, $5::text, $6::bigint, $7::bigint, $8::text::timestamptz, $9::text::timestamptz,
          $10::text, $11::bigint, $12::bigint)`,
        [name, ...values.with(fromPlace, from), one, page, pageBytes],
      ).catch((error) => {
        const reason = translate(error);
        throw count === 0 ? reason : errorAt(
          `${numberText(count)} notifications are ${done}, and the next could not be`,
          reason,
        );
      });
      count += Number(row.count);
      more = row.through_id !== null;
      if (more) from = toId(row.through_id) + 1;
      if (count > 0) await steps.onProgress?.(count);
    }
  }
  return count;
}

/** Where the filter has the id to begin with. */
const fromPlace = filterNames.indexOf("fromId");

/** Whether a worker serves a consumer now. */
export async function hasWorker(db: Queryable, consumer: string): Promise<boolean> {
  return await translated(async () => {
    const { rows } = await db.query(
      "select exists (select from hark.workers_of($1::text) w where w.alive) as served",
      [consumer],
    );
    return rows[0].served === true;
  });
}

/**
 * Where a notification stands for a consumer. `"foreign"`: it is not of its channels, or does not
 * match its filter. `"absent"`: it is not in the log.
 */
export type Whereabouts = "waiting" | "dead" | "handled" | "unread" | "foreign" | "absent";

/** Where notifications stand for a consumer, by id. */
export async function whereabouts(
  db: Queryable,
  consumer: string,
  ids: readonly number[],
): Promise<Map<number, Whereabouts>> {
  return await translated(async () => {
    const { rows } = await db.query(
      "select id, place from hark.whereabouts($1::text, $2::text::bigint[])",
      [consumer, `{${ids.join(",")}}`],
    );
    return new Map(rows.map((row) => [toId(row.id), row.place as Whereabouts]));
  });
}
