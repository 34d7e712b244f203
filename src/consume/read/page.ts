/**
 * Pages of a window, as the server returns them.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { toId } from "../../check.ts";
import { HarkError } from "../../errors.ts";
import type { LogRow, Place } from "../notification.ts";

/** A row of a page, with the partition it belongs to. */
export interface PageRow extends LogRow {
  readonly partition: number;
}

/** What a row counts in memory, in bytes. */
export const sizeOfRow = ({ payload, headers }: PageRow): number =>
  100 + (payload?.length ?? 0) + (headers?.length ?? 0);

/**
 * The same rows, which keep no other row of their page in memory: V8 makes each part of a text hold on to
 * the whole.
 */
export function copiesOf(rows: readonly PageRow[]): PageRow[] {
  const copyOf = (text: string | null) => text === null ? null : ` ${text}`.slice(1);
  return rows.map((row) => ({
    ...row,
    payload: copyOf(row.payload),
    headers: copyOf(row.headers),
  }));
}

/** A page, and how far the window is read after it. */
export interface Page {
  readonly rows: readonly PageRow[];
  /** The last id that is read. */
  readonly lastId: number;
  /** Whether the window is read to its end. */
  readonly windowEnd: boolean;
  /** How many ids the window spans, from where it is looked at. */
  readonly span: number;
  /** The columns of the row, including others that the query selected. */
  readonly facts: Readonly<Record<string, unknown>>;
}

/** A page that has arrived and is not unpacked yet. */
export interface PackedPage {
  // deno-lint-ignore no-explicit-any -- rows as drivers return them
  readonly rows: any[];
}

/**
 * Where the next page of the same window begins, and the size of this page. Undefined if this page
 * ends the window.
 */
export function pageAfter(
  { rows: [row] }: PackedPage,
): { lastId: number; bytes: number } | undefined {
  if (row?.window_end !== false) return undefined;
  return {
    lastId: toId(row.last_id),
    bytes: (row.payloads?.length ?? 0) + (row.header_list?.length ?? 0),
  };
}

/** The columns to select from hark.page, under the alias g. {@linkcode parsePage} reads them. */
export const pageColumns =
  `g.ids, g.channel_list, g.keys, g.payloads, g.header_list, g.times, g.replays,
 g.partition_list, g.problems, g.last_id, g.window_end, g.window_span`;

/**
 * An empty window that spans more ids than this is stored, so that the next window need not scan
 * them again.
 */
export const spanWorthStoring = 2000;

/**
 * Unpacks a page.
 *
 * @param channel The channel of rows that were sent without one.
 * @param place Where the reader stands in the window, if rows are to have a position.
 */
export function parsePage(
  { rows: [row] }: PackedPage,
  channel: string | null,
  place?: Place,
): Page {
  if (typeof row?.window_end !== "boolean") {
    throw new HarkError("DATABASE", "the server returned a page that does not say where it ends");
  }
  const ids = numbersIn(row.ids);
  if (ids.length > 0) toId(ids.at(-1)); // ids ascend, so the last one tells for all
  const payloads = linesIn(row.payloads);
  const headers = linesIn(row.header_list);
  const times = timesIn(row.times);
  const partitions = numbersIn(row.partition_list);
  const keys: (string | null)[] = JSON.parse(row.keys ?? "[]");
  const channels: Record<number, string> = JSON.parse(row.channel_list ?? "{}");
  const problems: Record<number, string> = JSON.parse(row.problems ?? "{}");
  const rows = ids.map((id, i): PageRow => ({
    id,
    channel: channels[id] ?? channel!,
    key: keys[i] ?? null,
    payload: payloads[i] || null,
    headers: headers[i] || null,
    createdAt: timeAt(times, i),
    isReplay: row.replays === null || row.replays[i] === "1",
    partition: partitions[i] ?? 0,
    problem: problems[id],
    place,
  }));
  return {
    rows,
    lastId: toId(row.last_id),
    windowEnd: row.window_end,
    span: toId(row.window_span),
    facts: row,
  };
}

function numbersIn(list: string | null): number[] {
  return list === null ? [] : JSON.parse(`[${list}]`);
}

/** Times as microseconds since 2000, in 16 hexadecimal digits each. */
function timesIn(list: string | null): DataView {
  const digits = list ?? "";
  // Node.js 24 has no fromHex, which takes a fifth of the time.
  const bytes = Uint8Array.fromHex?.(digits) ?? Buffer.from(digits, "hex");
  return new DataView(bytes.buffer, bytes.byteOffset);
}

/** The time at a place, in milliseconds since 1970. */
function timeAt(times: DataView, i: number): number {
  return (times.getInt32(8 * i) * 2 ** 32 + times.getUint32(8 * i + 4) + MICROS_BEFORE_2000) / 1000;
}

/** From 1970 on. */
const MICROS_BEFORE_2000 = 946_684_800_000_000;

function linesIn(list: string | null): string[] {
  return list === null ? [] : list.split("\n");
}
