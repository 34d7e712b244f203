/**
 * The pages of a reader that is not registered.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import type { PageLimits } from "../state/context.ts";
import type { OutsidePlace } from "../state/outside.ts";
import type { Mark, Position } from "../state/position.ts";
import { Caution } from "./caution.ts";
import { type Page, pageColumns, parsePage } from "./page.ts";

const readSql = `select ${pageColumns}, (hark.log_facts()).cleaned_through as cleaned
from hark.page($1::text::hark.marks, $2::text::hark.marks, $3::bigint, $4::bigint,
 array(select pg_catalog.json_array_elements_text($5::text::json)),
 $6::integer, $7::bigint, $8::integer, $9::text::hark.marks) g`;

const readAllSql = readSql.replace(
  /array\(.*\)\),/,
  "case when $5::text is null then null::text[] end,",
);

/** What a reader at the end of the log reads. */
export const emptyPage: Page = { rows: [], lastId: 0, windowEnd: true, span: 0, facts: {} };

/** Asks for pages, smaller ones after one that was too much for the server. */
export class EphemeralPages {
  #channels: string | null;
  readonly #caution: Caution;

  /** @param channels Null reads every channel. */
  constructor(channels: readonly string[] | null, limits: PageLimits) {
    this.#channels = channels === null ? null : JSON.stringify(channels);
    this.#caution = new Caution(limits);
  }

  /** What is read of the log. */
  set channels(names: readonly string[]) {
    this.#channels = JSON.stringify(names);
  }

  /**
   * Reads the next page of a window.
   *
   * @param end Where the window ends.
   * @param started Rows that this mark sees are replays.
   * @param place Where the page begins, for the positions of its rows.
   */
  async read(
    session: Queryable,
    { seen, target, lastId, afterId }: Position,
    end: Mark,
    started: Mark,
    place: OutsidePlace,
  ): Promise<Page> {
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
        started.content,
      ]);
      this.#caution.succeeded(performance.now() - sent);
      return parsePage(page, null, place);
    } catch (error) {
      this.#caution.failed(error, performance.now() - sent);
      throw error;
    }
  }
}
