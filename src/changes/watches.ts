/**
 * What is watched, and whether it still is as it was told.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { nameSql } from "./table.ts";
import { date, ms } from "../operate/times.ts";
import { requireSchema } from "../schema/migrate.ts";
import type { WatchPayload } from "./change.ts";
import type { WatchOperation } from "./options.ts";

/** A watch, as the database has it. */
export interface WatchStatus {
  /** The table, with its schema, as in SQL; its last name where it is gone. */
  readonly table: string;
  /** Whether the table is there. */
  readonly exists: boolean;
  /** The watch's name. */
  readonly name: string;
  /** The channel it publishes on. */
  readonly channel: string;
  /** Whether its triggers run once a statement, or for each row. */
  readonly level: "statement" | "row";
  /** Why not once a statement; null where there is nothing to say. */
  readonly reason: string | null;
  /** What it publishes. */
  readonly operations: readonly WatchOperation[];
  /** What it publishes of a row. */
  readonly payload: WatchPayload;
  /** The columns that tell a row; none where it has no key. */
  readonly key: readonly string[];
  /** All that it was told. */
  readonly definition: Readonly<Record<string, unknown>>;
  /**
   * What is not as it should be any more, a sentence each: columns that came or went, triggers that were
   * dropped or disabled. {@linkcode rewatch} puts most of it right. Empty where all is well.
   */
  readonly drift: readonly string[];
  /** When its snapshot was done; null where it was not, or there was none. */
  readonly snapshotDoneAt: Date | null;
  /** How many rows its snapshot has published. */
  readonly snapshotCount: number;
  /** When the table was first watched under this name. */
  readonly createdAt: Date;
}

/**
 * Every watch, by table and name, with what has drifted from what was told. Reads only.
 *
 * @throws {HarkError} `NO_SCHEMA` and so on; `NO_PERMISSION`.
 * @example
 * ```ts
 * import { connect, watches } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { table, channel, drift } of await watches(db)) {
 *   console.log(table, "->", channel, drift.length === 0 ? "as it should be" : drift);
 * }
 * ```
 */
export async function watches(db: Queryable): Promise<WatchStatus[]> {
  await requireSchema(db);
  return await translated(() => watchStatuses(db));
}

/** {@linkcode watches} of a schema that is known to be right. */
export async function watchStatuses(db: Queryable): Promise<WatchStatus[]> {
  const { rows } = await db.query(
    `select relation is not null as exists, coalesce(${
      nameSql("relation")
    }, relation_name) as relation_name,
      name, channel, level, reason, array_to_json(operations)::text as operations, payload,
      array_to_json(key)::text as key, definition::text as definition, array_to_json(drift)::text as drift,
      ${ms("snapshot_done_at")}, snapshot_count, ${ms("created_at")}
    from hark.watches()
    order by relation_name, name`,
  );
  return rows.map((row) => ({
    table: row.relation_name,
    exists: row.exists,
    name: row.name,
    channel: row.channel,
    level: row.level,
    reason: row.reason,
    operations: JSON.parse(row.operations),
    payload: row.payload,
    key: JSON.parse(row.key),
    definition: JSON.parse(row.definition),
    drift: JSON.parse(row.drift),
    snapshotDoneAt: date(row.snapshot_done_at),
    snapshotCount: Number(row.snapshot_count),
    createdAt: date(row.created_at)!,
  }));
}
