/**
 * Retention: how long notifications are kept, as settings that the workers apply.
 *
 * @module
 */

import { channelName, knownOptions } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { type Duration, keepBounds, requiredMs } from "../duration.ts";
import { ask } from "../schema/ask.ts";
import { requireSchema } from "../schema/migrate.ts";
import { date, ms } from "./times.ts";

/** Which notifications a setting of retention is about. */
export interface RetentionOptions {
  /** Those of this channel. Without it: those of all channels that have no setting of their own. */
  readonly channel?: string;
}

/** How long notifications are kept. */
export interface RetentionSetting {
  /** The channel; null for all channels that have no setting of their own. */
  readonly channel: string | null;
  /** How long, in milliseconds; null for ever. */
  readonly keep: number | null;
  /** When this was set. */
  readonly setAt: Date;
  /** When a worker last applied it; null if none has yet. */
  readonly appliedAt: Date | null;
  /** How many notifications workers have removed for it. An estimate for emptied segments. */
  readonly removed: number;
}

/**
 * Sets how long notifications are kept: those of one channel, or of all channels that have no
 * setting of their own. Workers then remove what is older, one worker at a time, within seconds and
 * every minute from then on. As {@linkcode cleanup} does, they keep what a consumer has not passed,
 * what waits or will be replayed, and dead letters. While no worker runs, nothing is removed.
 *
 * @param keep A {@linkcode Duration} of 1 ms to 100,000 days, or `"forever"`.
 * @throws {HarkError} `BAD_OPTION`; `BAD_CHANNEL`; `NO_PERMISSION` without `hark.grant_operate`;
 * `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, setRetention } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await setRetention(db, "30d");
 * await setRetention(db, "1d", { channel: "heartbeats" });
 * await setRetention(db, "forever", { channel: "audit" });
 * ```
 */
export async function setRetention(
  db: Queryable,
  keep: Duration,
  options: RetentionOptions = {},
): Promise<void> {
  const channel = channelOf("setRetention", options);
  const time = keep === "forever" ? null : requiredMs("keep", keep, keepBounds, 'or "forever"');
  await ask(
    db,
    "select hark.set_retention(make_interval(secs => $1::float8 / 1000), $2::text)",
    [time, channel],
  );
}

/**
 * Removes a setting of {@linkcode setRetention}. Returns whether there was one. A channel is then
 * kept as all others are. Without any setting nothing is removed.
 *
 * @throws {HarkError} The errors of {@linkcode setRetention}.
 * @example
 * ```ts
 * import { connect, unsetRetention } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await unsetRetention(db, { channel: "audit" }));
 * ```
 */
export async function unsetRetention(
  db: Queryable,
  options: RetentionOptions = {},
): Promise<boolean> {
  const channel = channelOf("unsetRetention", options);
  const [{ there }] = await ask(db, "select hark.unset_retention($1::text) as there", [channel]);
  return there === true;
}

function channelOf(what: string, options: RetentionOptions): string | null {
  knownOptions(what, options, ["channel"]);
  return options.channel === undefined ? null : channelName(options.channel);
}

/**
 * How long notifications are kept: the setting for all channels first, then those of single
 * channels by name. Empty if nothing is ever removed by itself.
 *
 * @throws {HarkError} `NO_PERMISSION` without `hark.grant_consume`, `hark.grant_operate` or
 * `hark.grant_observe`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { connect, retention } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { channel, keep } of await retention(db)) console.log(channel ?? "all", keep);
 * ```
 */
export async function retention(db: Queryable): Promise<RetentionSetting[]> {
  await requireSchema(db);
  return await translated(() => retentionSettings(db));
}

/** The settings, without a look at the schema. */
export async function retentionSettings(db: Queryable): Promise<RetentionSetting[]> {
  const { rows } = await db.query(
    `select channel, (extract(epoch from keep) * 1000)::float8 as keep, ${ms("set_at")},
      ${ms("applied_at")}, removed
    from hark.retention_settings()`,
  );
  return rows.map((row) => ({
    channel: row.channel,
    keep: row.keep === null ? null : Number(row.keep),
    setAt: date(row.set_at)!,
    appliedAt: date(row.applied_at),
    removed: Number(row.removed),
  }));
}
