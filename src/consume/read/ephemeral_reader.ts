/**
 * Reads windows for a reader that is not registered.
 *
 * @module
 */

import { toId } from "../../check.ts";
import { ownConnection, type Queryable, type QueryResult } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import type { PageLimits } from "../state/context.ts";
import { isSameMark, type Mark, markOf, type Position } from "../state/position.ts";
import { Caution } from "./caution.ts";
import { cut } from "./cut.ts";
import { extendLog } from "./extend_log.ts";
import { thinMarks } from "./thin_marks.ts";
import { type Page, pageColumns, parsePage } from "./page.ts";

const readSql = `select ${pageColumns}
from hark.page($1::text::hark.marks, $2::text::hark.marks, $3::bigint, $4::bigint,
 array(select pg_catalog.json_array_elements_text($5::text::json)),
 $6::integer, $7::bigint, $8::integer, $9::text::hark.marks) g`;

const readAllSql = readSql.replace(
  /array\(.*\)\),/,
  "case when $5::text is null then null::text[] end,",
);

const emptyPage: Page = { rows: [], lastId: 0, windowEnd: true, span: 0, facts: {} };

/** When readers last made room in the log, by what their connections are. */
const extendedAt = new WeakMap<object, number>();

/** Reads windows from a position that is kept in memory. */
export class EphemeralReader {
  readonly #channels: string | null;
  readonly #caution: Caution;
  #started: Mark | undefined;
  #position: Position | undefined;
  #upkeepAt = performance.now() + 60_000;
  /**
   * Set when the server refuses the position, because it has been through a crash or a fail-over.
   */
  lost = false;

  /** @param channels Null reads every channel. */
  constructor(channels: string[] | null, limits: PageLimits) {
    this.#channels = channels === null ? null : JSON.stringify(channels);
    this.#caution = new Caution(limits);
  }

  /** Moves to the start, in the form that hark.start_position takes. */
  async start(session: Queryable, start: unknown[]): Promise<void> {
    await translated(async () => {
      await session.query("select hark.rebase()");
      const { rows: [{ started }] } = await session.query(
        "select hark.content_of(hark.cut()) as started",
      );
      const mark = this.#started = markOf(started);
      if (start[0] === "now") {
        this.#position = { seen: mark, target: undefined, lastId: 0, afterId: 0 };
        return;
      }
      const { rows: [row] } = await session.query(
        `select hark.content_of(p.seen) as seen, p.after_id
         from hark.start_position($1::text, $2::bigint, $3::text::timestamptz) p`,
        start,
      );
      const seen = markOf(row.seen);
      this.#position = { seen, target: undefined, lastId: 0, afterId: toId(row.after_id) };
    });
  }

  /**
   * Reads the next page, of the current window or of a new one. At the end of the log the page is
   * empty.
   */
  async read(session: Queryable): Promise<Page> {
    return await translated(async () => {
      if (this.lost) await this.#resume(session);
      await this.#upkeep(session);
      const { seen, target, afterId } = this.#position!;
      const end = target ?? await cut(session);
      if (isSameMark(end, seen)) return emptyPage;
      const page = parsePage({ rows: await this.#page(session, end) }, null);
      this.#position = page.windowEnd
        ? { seen: end, target: undefined, lastId: 0, afterId }
        : { seen, target: end, lastId: page.lastId, afterId };
      return page;
    });
  }

  async #page(session: Queryable, end: Mark): Promise<QueryResult["rows"]> {
    const { seen, target, lastId, afterId } = this.#position!;
    const { rows, bytes, scanned } = this.#caution.limits();
    this.#caution.prepare(session);
    const sent = performance.now();
    try {
      const page = await session.query(this.#channels === null ? readAllSql : readSql, [
        seen.content,
        end.content,
        target === undefined ? null : lastId,
        afterId,
        this.#channels,
        rows,
        bytes,
        scanned,
        this.#started!.content,
      ]);
      this.#caution.succeeded(performance.now() - sent);
      return page.rows;
    } catch (error) {
      this.#caution.failed(error, performance.now() - sent);
      throw error;
    }
  }

  /**
   * After a crash or a fail-over that took the mark, goes on from the last one before that has
   * survived. Some notifications are then read again.
   */
  async #resume(session: Queryable): Promise<void> {
    const { seen, afterId } = this.#position!;
    const { rows: [row] } = await session.query(
      "select hark.content_of(hark.resume_mark($1::text::hark.marks)) as mark",
      [seen.content],
    );
    this.#position = { seen: markOf(row.mark), target: undefined, lastId: 0, afterId };
    this.lost = false;
  }

  async #upkeep(session: Queryable): Promise<void> {
    if (performance.now() < this.#upkeepAt) return;
    this.#upkeepAt = performance.now() + 60_000;
    await thinMarks(session);
    // Of subscriptions that share their connections, one makes room for all.
    const shared = ownConnection(session)?.shared ?? this;
    const since = performance.now() - (extendedAt.get(shared) ?? -Infinity);
    if (since < 60_000) return;
    extendedAt.set(shared, performance.now());
    await extendLog(session);
  }
}
