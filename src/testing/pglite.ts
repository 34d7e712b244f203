/**
 * What is needed of PGlite, and finding it.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";

/** What is needed of PGlite. */
export interface PGliteClass {
  /** Starts a database. */
  create(options?: { loadDataDir?: Blob }): Promise<PGliteDatabase>;
}

/** A database of PGlite, as far as it is used. */
export interface PGliteDatabase extends Queryable, AsyncDisposable {
  /** Runs `work` in a transaction. */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>;
  /** Runs several statements. */
  exec(sql: string): Promise<unknown>;
  /** The data of the database. */
  dumpDataDir(compression: "none"): Promise<Blob>;
}

/** Loads PGlite: the one that the program names, else the newest that fits. */
export async function loadPGlite(): Promise<PGliteClass> {
  // Not written as literals: they would be dependencies of this package, for every program.
  let reason: unknown;
  for (const name of ["@electric-sql/pglite", "npm:@electric-sql/pglite@^0.5"]) {
    try {
      return (await import(name)).PGlite;
    } catch (error) {
      reason = error;
    }
  }
  throw new HarkError("BAD_OPTION", "PGlite cannot be loaded", {
    cause: reason,
    remedy: "Add it: deno add npm:@electric-sql/pglite. Or give testDatabase({ PGlite }), or set " +
      "DATABASE_URL for a test on a server.",
  });
}
