/**
 * How much was published on each channel.
 *
 * @module
 */

import { knownOptions, toId, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { ask } from "../schema/ask.ts";
import { logFilter } from "./notifications.ts";
import { date, ms } from "./times.ts";

/** Options of {@linkcode logChannels}. */
export interface LogChannelsOptions {
  /** From this id on, or from this time of publishing on. The beginning of the log unless given. */
  readonly from?: number | Date;
  /** Up to this id or time, included. The end of the log unless given. */
  readonly to?: number | Date;
  /** The maximum number of notifications to count, 1 to 10,000,000: the newest. @default {1000000} */
  readonly maxScanned?: number;
}

/** What was published on one channel. */
export interface LogChannel {
  /** The channel. */
  readonly channel: string;
  /** How many notifications the log has of it, in the range. */
  readonly notifications: number;
  /** The size of their payloads and headers as the server stores them, in bytes. */
  readonly bytes: number;
  /** When the first of them was published. */
  readonly firstAt: Date;
  /** When the last of them was published. */
  readonly lastAt: Date;
  /** How many consumers read the channel now. With 0, no consumer handles what is published on it. */
  readonly consumers: number;
}

/** The result of {@linkcode logChannels}. */
export interface LogChannels {
  /** The channels, that with the most notifications first; at most 10,000. */
  readonly channels: readonly LogChannel[];
  /** How many notifications were looked at. */
  readonly looked: number;
  /** The lowest id that was looked at. */
  readonly lookedThrough: number;
  /** Whether the range has older notifications, which were not counted. */
  readonly more: boolean;
}

/**
 * Counts what was published on each channel, and says how many consumers read the channel. It looks
 * at the newest million notifications of the range, which takes about a second, and says how far.
 *
 * @throws {HarkError} `BAD_OPTION`; `NO_PERMISSION` without `hark.grant_operate` or
 * `hark.grant_observe`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, logChannels } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { channels } = await logChannels(db, { from: new Date(Date.now() - 86_400_000) });
 * for (const { channel, notifications, consumers } of channels) {
 *   console.log(channel, notifications, consumers);
 * }
 * ```
 */
export async function logChannels(
  db: Queryable,
  options: LogChannelsOptions = {},
): Promise<LogChannels> {
  knownOptions("logChannels", options, ["from", "to", "maxScanned"]);
  const { maxScanned, ...range } = options;
  const { fromId, toId: lastId, fromTime, toTime } = logFilter(range);
  const most = wholeNumber("maxScanned", maxScanned, 1_000_000, 1, 10_000_000);
  const rows = await ask(
    db,
    `select channel, notifications, bytes, ${ms("first_at")}, ${ms("last_at")}, consumers,
      looked_through, looked, more
    from hark.log_channels($1::bigint, $2::bigint, $3::text::timestamptz, $4::text::timestamptz,
      $5::integer)`,
    [fromId, lastId, fromTime, toTime, most],
  );
  const end = rows.pop();
  return {
    channels: rows.map((row) => ({
      channel: row.channel,
      notifications: Number(row.notifications),
      bytes: Number(row.bytes),
      firstAt: date(row.first_at)!,
      lastAt: date(row.last_at)!,
      consumers: Number(row.consumers),
    })),
    looked: Number(end.looked),
    lookedThrough: toId(end.looked_through),
    more: end.more === true,
  };
}
