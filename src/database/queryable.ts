/**
 * The driver interface: what Hark needs from any PostgreSQL driver.
 *
 * @module
 */

/** The result of a query: its rows, as objects by column name. */
export interface QueryResult {
  /** The rows, in the order the server sent them. */
  // deno-lint-ignore no-explicit-any -- drivers type rows as any; callers check their columns
  readonly rows: any[];
}

/**
 * An object that can run one SQL statement with numbered parameters.
 *
 * `pg.Client`, `pg.Pool`, a PGlite database and its transactions implement it as they are. Other
 * drivers need one line of wrapping. Hark sends every parameter as text (or as a number or boolean)
 * and casts it in SQL. So no driver has to know the type of a column.
 *
 * @example A transaction of postgres.js
 * ```ts
 * import type { Queryable } from "@hark/postgres";
 *
 * declare const sql: { unsafe(text: string, values: unknown[]): Promise<unknown[]> };
 * const queryable: Queryable = {
 *   query: async (text, values = []) => ({ rows: await sql.unsafe(text, values) }),
 * };
 * ```
 */
export interface Queryable {
  /** Runs one statement. Rejects with the driver's error. */
  query(text: string, values?: unknown[]): Promise<QueryResult>;
}
