/**
 * Pages of a snapshot window, as the server returns them.
 *
 * @module
 */

import { toId } from "../check.ts";
import { HarkError } from "../errors.ts";
import type { LogRow } from "./notification.ts";

/** How large a page may be. */
export interface PageLimits {
  /** Rows returned. */
  readonly rows: number;
  /** Bytes returned, beyond the first row. */
  readonly bytes: number;
  /** Rows looked at, of whatever channel. */
  readonly scanned: number;
}

/** A row of a page, with the partition it belongs to. */
export interface PageRow extends LogRow {
  readonly partition: number;
}

/** A page, and where it leaves its reader. */
export interface Page {
  readonly rows: readonly PageRow[];
  /** The position after the page; opaque. */
  readonly position: string;
  /** Whether the window is read to its end. */
  readonly windowEnd: boolean;
  /** How many ids the window spans, from the floor. */
  readonly span: number;
}

/** The columns to select from hark.window_read, under the alias r. */
export const pageColumns = `r.id, r.channel, r.key, r.payload::text as payload,
 r.headers::text as headers, date_part('epoch', r.created_at) * 1000 as created_at, r.is_replay,
 r.partition, r."position"::text as "position", r.window_end, r.window_span`;

/** An empty window that spans more ids than this is stored, so that the next one need not rescan them. */
export const spanWorthStoring = 2000;

// deno-lint-ignore no-explicit-any -- rows as drivers return them
export function parsePage(rows: any[]): Page {
  const parsed: PageRow[] = [];
  let end: Pick<Page, "position" | "windowEnd" | "span"> | undefined;
  for (const row of rows) {
    if (row.id === null) {
      end = { position: row.position, windowEnd: row.window_end, span: toId(row.window_span) };
    } else {
      parsed.push({
        id: toId(row.id),
        channel: row.channel,
        key: row.key,
        payload: row.payload,
        headers: row.headers,
        createdAt: Number(row.created_at),
        isReplay: row.is_replay,
        partition: row.partition,
      });
    }
  }
  if (end === undefined) {
    throw new HarkError("DATABASE", "the server returned a page without its position");
  }
  return { rows: parsed, ...end };
}
