/**
 * Lists the watches of a database, with their drift.
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

/** A watch as the database has it. */
export interface WatchStatus {
  /** The table with its schema, quoted as in SQL. Its last name if the table no longer exists. */
  readonly table: string;
  /** Whether the table exists. */
  readonly exists: boolean;
  /** The watch's name. */
  readonly name: string;
  /** The channel it publishes on. */
  readonly channel: string;
  /** Whether the triggers run once per statement or once per row. */
  readonly level: "statement" | "row";
  /** Why the triggers do not run once per statement; null if no reason was recorded. */
  readonly reason: string | null;
  /** The operations that it publishes. */
  readonly operations: readonly WatchOperation[];
  /** What it publishes for a row. */
  readonly payload: WatchPayload;
  /** The columns that identify a row; empty if the table has no key. */
  readonly key: readonly string[];
  /** The complete definition. */
  readonly definition: Readonly<Record<string, unknown>>;
  /**
   * What no longer matches the definition, one sentence each: columns that were added or removed,
   * triggers that were dropped or disabled. {@linkcode rewatch} repairs most of it. Empty if
   * nothing has drifted.
   */
  readonly drift: readonly string[];
  /** When the snapshot finished; null if it has not, or if there was none. */
  readonly snapshotDoneAt: Date | null;
  /** How many rows the snapshot has published. */
  readonly snapshotCount: number;
  /** When the table was first watched under this name. */
  readonly createdAt: Date;
}

/**
 * Lists every watch, by table and name, with its drift from the definition. Reads only.
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

/** {@linkcode watches} without the check of the schema's version. */
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
