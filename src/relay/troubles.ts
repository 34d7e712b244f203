/**
 * Trouble that passes by itself, logged and stored when it begins, when it changes, and when it is over.
 *
 * @module
 */

import { inItsEncoding } from "../database/encoding.ts";
import type { Queryable } from "../database/queryable.ts";
import { messageOf } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";

const logger = getLogger(["hark", "relay"]);

/** How long the same trouble is not told again, in milliseconds. */
const quiet = 30_000;

/** What a relay or an inbox waits for. */
export class Troubles {
  readonly #kind: "relay" | "inbox";
  readonly #id: string;
  readonly #db: Queryable;
  #reason: string | undefined;
  #since = 0;
  #told = 0;
  /** Whether the database has trouble stored: an earlier process may have left some. */
  #isStored = true;
  #storing = Promise.resolve();

  constructor(kind: "relay" | "inbox", id: string, db: Queryable) {
    this.#kind = kind;
    this.#id = id;
    this.#db = db;
  }

  /** Tells of trouble, or that it is over. */
  tell(reason: string | undefined): void {
    const now = performance.now();
    if (reason === undefined) {
      if (this.#isStored) this.#store(undefined);
      if (this.#reason === undefined) return;
      logger.over("{relay}: goes on after {seconds} s", {
        relay: this.#id,
        seconds: Math.round((now - this.#since) / 100) / 10,
      });
      this.#reason = undefined;
      return;
    }
    if (this.#reason === undefined) this.#since = now;
    else if (this.#reason === reason && now - this.#told < quiet) return;
    this.#reason = reason;
    this.#told = now;
    this.#store(reason);
    logger.warn("{relay}: waits, and tries again: {reason}", { relay: this.#id, reason });
  }

  /** The run is over. Waits until what was told is stored. */
  async forget(): Promise<void> {
    if (this.#reason !== undefined) this.#store(undefined);
    this.#reason = undefined;
    await this.#storing;
  }

  /** One after the other: what was told last has to stay. The database may be what is away. */
  #store(reason: string | undefined): void {
    this.#isStored = reason !== undefined;
    this.#storing = this.#storing.then(async () => {
      await inItsEncoding((writable) =>
        this.#db.query("select hark.tell_trouble($1::text, $2::text, $3::text)", [
          this.#kind,
          this.#id,
          reason === undefined ? null : writable(reason),
        ])
      );
    }).catch((error) => {
      this.#isStored = true;
      logger.debug("{relay}: could not store what it waits for: {reason}", {
        relay: this.#id,
        reason: messageOf(error),
      });
    });
  }
}
