/**
 * Statements of few that are run again and again: kept prepared by the server, where that can be.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { Queryable, QueryResult } from "./queryable.ts";

// Registered, rather than a class to ask for: a module of consumers may have imported another copy of this package
// than the program that runs it.
const again = Symbol.for("@hark/postgres:again:1");

type Query = Queryable["query"] & { [again]?: Queryable["query"] };

/**
 * Gives a `query` method of ours a way to run such a statement. It hangs on the method, not on the object, so that who
 * puts another `query` in its place, to take part in a transaction, say, has these statements as well.
 */
export function runsAgain<T extends Queryable>(
  method: T["query"],
  run: (this: T, text: string, values: unknown[]) => Promise<QueryResult>,
): void {
  Object.defineProperty(method, again, { value: run });
}

/** Runs one statement of few, prepared where the connection is one of our own. */
export function queryAgain(
  db: Queryable,
  text: string,
  values: unknown[],
): Promise<QueryResult> {
  return (db.query as Query)[again]?.call(db, text, values) ?? db.query(text, values);
}

/** Names of statements, by their text. */
const names = new Map<string, string>();

/** From the text, so that a server connection that others have used by way of a pooler cannot have another of it. */
function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) {
    name = `hark_${createHash("sha256").update(text).digest("hex").slice(0, 32)}`;
    names.set(text, name);
  }
  return name;
}

/**
 * What a server, or a pooler before it, answers where a prepared statement is not there any more, is there already,
 * or gives other columns since an upgrade. It was not run then.
 */
const notPrepared = new Set(["26000", "42P05", "0A000"]);

/** A `pg.Client` or `pg.Pool`. */
interface Driver {
  query(statement: { name?: string; text: string; values: unknown[] }): Promise<QueryResult>;
}

/** Runs statements of one client or pool, prepared until the server turns out not to keep them. */
export class Preparing {
  #keeps = true;

  /** Runs one, which saves about a tenth of the time of reading a page, or publishing. Rejects with the driver's error. */
  async query(driver: Driver, text: string, values: unknown[]): Promise<QueryResult> {
    if (this.#keeps) {
      try {
        return await driver.query({ name: nameOf(text), text, values });
      } catch (error) {
        if (!notPrepared.has((error as { code?: string }).code ?? "")) throw error;
        this.#keeps = false;
      }
    }
    return await driver.query({ text, values });
  }
}
