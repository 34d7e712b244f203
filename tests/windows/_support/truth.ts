/**
 * What a reader was given, held against the log itself.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Queryable } from "../../../src/database/queryable.ts";
import type { Delivered } from "./reader.ts";

/** How a reader's deliveries differ from what was committed. */
export interface Difference {
  /** In the log, never delivered. */
  readonly missed: number[];
  /** Delivered more than once. */
  readonly repeated: number[];
  /** Delivered, not in the log. */
  readonly invented: number[];
}

/** Compares deliveries with the rows of the log on `channels` (all unless given). */
export async function difference(
  db: Queryable,
  delivered: readonly Delivered[],
  channels: string[] | null = null,
): Promise<Difference> {
  const { rows } = await db.query(
    "select id from hark.log where $1::text[] is null or channel = any ($1) order by id",
    [channels],
  );
  const truth = new Set(rows.map((row) => Number(row.id)));
  const times = new Map<number, number>();
  for (const { id } of delivered) times.set(id, (times.get(id) ?? 0) + 1);
  return {
    missed: [...truth].filter((id) => !times.has(id)),
    repeated: [...times].filter(([, count]) => count > 1).map(([id]) => id),
    invented: [...times.keys()].filter((id) => !truth.has(id)),
  };
}

/** Fails unless every committed notification was delivered exactly once. */
export async function assertExactlyOnce(
  db: Queryable,
  delivered: readonly Delivered[],
  channels: string[] | null = null,
): Promise<void> {
  assert.deepEqual(await difference(db, delivered, channels), {
    missed: [],
    repeated: [],
    invented: [],
  });
}
