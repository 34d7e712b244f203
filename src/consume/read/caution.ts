/**
 * How much a reader asks for after a request that took too long.
 *
 * @module
 */

import { sqlState } from "../../database/driver_error.ts";
import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { translate } from "../../database/translate.ts";
import type { PageLimits } from "../state/context.ts";

/** A page of one row gets at most this many times the usual timeout. */
const mostPatience = 64;

/**
 * Makes pages smaller after one timed out, down to one row. If one row times out, the reader waits
 * longer for it. Otherwise it would ask for the same page for ever.
 */
export class Caution {
  readonly #limits: PageLimits;
  #divisor = 1;
  #patience = 1;
  /** A page that took longer than this is no reason to ask for more, in milliseconds. */
  #comfortable = Infinity;

  constructor(limits: PageLimits) {
    this.#limits = limits;
  }

  /** The limits of the next page, of at most `rows` rows. */
  limits(rows: number = this.#limits.rows): PageLimits {
    const { bytes, scanned } = this.#limits;
    const part = (whole: number) => Math.ceil(whole / this.#divisor);
    return { rows: part(rows), bytes: part(bytes), scanned: Math.max(part(scanned), part(rows)) };
  }

  /** Gives a session the timeout that the next page needs. */
  prepare(session: Queryable): void {
    const own = ownConnection(session);
    if (own !== undefined) own.patience = this.#patience;
  }

  /** A page has arrived, so that the next one may be larger. */
  succeeded(took: number): void {
    if (took > this.#comfortable) return;
    this.#divisor = Math.max(1, this.#divisor / 2);
    this.#patience = Math.max(1, this.#patience / 2);
  }

  /** A page could not be read. If it was too much, the next one is smaller. */
  failed(error: unknown, took: number): void {
    if (!isTooMuch(error)) return;
    this.#comfortable = took / this.#patience / 4;
    const { rows, scanned } = this.#limits;
    if (this.#divisor >= rows) this.#patience = Math.min(this.#patience * 2, mostPatience);
    this.#divisor = Math.min(this.#divisor * 10, Math.max(rows, scanned));
  }
}

/**
 * The server or the driver has given the query up, or the server had no memory for it. A standby
 * cancels reads that keep it from replaying (40001).
 */
function isTooMuch(error: unknown): boolean {
  const reason = translate(error);
  const state = sqlState(reason);
  return reason.code === "TIMEOUT" || state === "57014" || state === "53200" ||
    state === "40001";
}
