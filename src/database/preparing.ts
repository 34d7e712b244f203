/**
 * Statements that are kept prepared on the server, if the server can keep them.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { QueryResult } from "./queryable.ts";

/** The names of prepared statements, by their text. */
const names = new Map<string, string>();

/**
 * Derives the name from the text. Behind a pooler, other clients may have used the same server
 * connection; this way the same name always stands for the same statement.
 */
function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `hark_${createHash("sha256").update(text).digest("hex").slice(0, 32)}`;
    names.set(text, name);
  }
  return name;
}

/**
 * The SQLSTATEs of a server or a pooler for a prepared statement that does not exist any more,
 * exists already, or returns other columns since an upgrade. The statement was not executed then.
 */
const notPrepared = new Set(["26000", "42P05", "0A000"]);

/** A `pg.Client` or `pg.Pool`. */
interface Driver {
  query(
    statement: { name?: string; text: string; values: unknown[]; query_timeout?: number },
  ): Promise<QueryResult>;
}

/**
 * Runs the statements of one client or pool. It prepares them until the server turns out not to
 * keep them.
 */
export class Preparing {
  #keeps = true;

  /**
   * Runs one statement. A prepared one saves about a tenth of the time of reading a page, or of
   * publishing. Rejects with the driver's error.
   */
  async query(
    driver: Driver,
    text: string,
    values: unknown[],
    timeout: { query_timeout?: number } = {},
  ): Promise<QueryResult> {
    if (this.#keeps) {
      try {
        return await driver.query({ name: nameOf(text), text, values, ...timeout });
      } catch (error) {
        if (!notPrepared.has((error as { code?: string }).code ?? "")) throw error;
        this.#keeps = false;
      }
    }
    return await driver.query({ text, values, ...timeout });
  }
}
