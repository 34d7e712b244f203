/**
 * The options of a monitor.
 *
 * @module
 */

import { checkedValues, duration, either, other, type Rules } from "../option_rules.ts";
import { type Queryable, requireQueryable } from "../database/queryable.ts";
import type { Duration } from "../duration.ts";

/** Options of {@linkcode monitor}. */
export interface MonitorOptions {
  /**
   * Whether this process takes part in reporting how the database is: lag, dead letters, the log. One
   * process of all that take part reports at a time.
   * @default {true}
   */
  readonly database?: boolean;
  /**
   * A database to report though no consumer of this process runs on it. Its role needs no more than
   * `hark.grant_observe`: so a process can serve metrics and nothing else.
   * @default {none}
   */
  readonly observe?: Queryable;
  /**
   * How long the loop of a consumer may stand still before it counts as stuck: 90000 ms to 1 day. The
   * loop turns at least once a minute, unless one notification takes longer to read.
   * @default {180000}
   */
  readonly maxSilence?: Duration;
}

/** The options with their defaults. Durations are milliseconds. */
export interface Settings {
  readonly database: boolean;
  readonly observe?: Queryable;
  readonly maxSilence: number;
}

/** The rules for each option. */
export const monitorRules = {
  database: either(true),
  observe: other("what `connect` returns", undefined, (value) => typeof value === "object"),
  maxSilence: duration(180_000, 90_000, 86_400_000),
} satisfies Rules;

/** Checks the options. @throws {HarkError} `BAD_OPTION`. */
export function settingsOf(options: MonitorOptions): Settings {
  const settings = checkedValues("monitor", monitorRules, options);
  const { observe } = options;
  if (observe === undefined) return settings;
  requireQueryable(observe);
  return { ...settings, observe };
}
