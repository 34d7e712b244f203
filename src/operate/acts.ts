/**
 * The record of what operators did.
 *
 * @module
 */

import { knownOptions, text, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { ask } from "../schema/ask.ts";
import { date, ms } from "./times.ts";

/** Something that an operator did: by a command, a page, a call or SQL. */
export interface Act {
  /** The number of the record. */
  readonly act: number;
  /** When. */
  readonly at: Date;
  /** What, such as `"retry"` or `"pause"`. */
  readonly what: string;
  /** The consumer, schedule or channel that it was about; null if it was about none. */
  readonly about: string | null;
  /** How many notifications; null if that does not apply. */
  readonly affected: number | null;
  /** By what notifications were chosen, or to what something was changed. */
  readonly detail: string;
  /** The role that acted. */
  readonly role: string;
  /** The role that had logged in. */
  readonly login: string;
  /** The person, as the program named them in the setting `hark.person`; null if it did not. */
  readonly person: string | null;
}

/** Options of {@linkcode acts}. */
export interface ActsOptions {
  /** The maximum number to return, 1 to 10,000. @default {100} */
  readonly limit?: number;
  /** Only those with a lower number than this, to read the next page. */
  readonly before?: number;
  /** Only those about this consumer, schedule or channel. */
  readonly about?: string;
}

/**
 * The last acts of operators, the newest first: what was paused, moved, retried, discarded and so on, by
 * which role, and by which person if the program said so. 10,000 are kept. What a role cancels or
 * unschedules of its own is left out, unless an operator's program names the person.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate` or
 * `hark.grant_observe`; `NO_SCHEMA` and so on.
 */
export async function acts(db: Queryable, options: ActsOptions = {}): Promise<Act[]> {
  knownOptions("acts", options, ["limit", "before", "about"]);
  const limit = wholeNumber("limit", options.limit, 100, 1, 10_000);
  const before = options.before === undefined ? null : wholeNumber("before", options.before, 1, 1);
  const about = options.about === undefined ? null : text("about", options.about, "BAD_OPTION");
  const rows = await ask(
    db,
    `select number, ${ms("at")}, act, about, affected, detail, role, login, person
    from hark.list_acts($1::integer, $2::bigint, $3::text)`,
    [limit, before, about],
  );
  return rows.map((row) => ({
    act: toId(row.number),
    at: date(row.at)!,
    what: row.act,
    about: row.about,
    affected: row.affected === null ? null : Number(row.affected),
    detail: row.detail,
    role: row.role,
    login: row.login,
    person: row.person,
  }));
}
