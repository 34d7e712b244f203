/**
 * The connections to a database, as telemetry sees them.
 *
 * @module
 */

import { noteDatabase, type ObservedDatabase } from "../observe/seam.ts";
import type { Listener } from "./listener.ts";

/** What counts its connections. */
interface Counted {
  readonly size: number;
}

/** The connections of one `Database`. */
export class ObservedConnections implements ObservedDatabase {
  readonly #parts: readonly Counted[];
  readonly #listens: boolean;
  readonly #forget = noteDatabase(this);
  /** What listens, once it has begun. */
  listener: Listener | undefined;

  /** @param listens Whether LISTEN is used at all. */
  constructor(parts: readonly Counted[], listens: boolean) {
    this.#parts = parts;
    this.#listens = listens;
  }

  get open(): number {
    const own = this.listener?.sessionKey === undefined ? 0 : 1;
    return this.#parts.reduce((sum, { size }) => sum + size, own);
  }

  get listening(): boolean | undefined {
    return this.#listens ? this.listener?.live : false;
  }

  /** The database is closed. */
  end(): void {
    this.#forget();
  }
}
