/**
 * The errors of statements that publish.
 *
 * @module
 */

import { serverError } from "../database/driver_error.ts";
import { messageOf, translate } from "../database/translate.ts";
import { HarkError } from "../errors.ts";

/**
 * Turns what a driver throws into a {@linkcode HarkError} with its code, as {@linkcode notify} does
 * itself. It is for statements that you give to a driver yourself, such as those of
 * {@linkcode notifyStatement}. A HarkError is returned as it is.
 *
 * @param error What was thrown, by whatever driver and however deep it is wrapped.
 * @example
 * ```ts
 * import { harkError, notifyStatement } from "@hark/postgres/publish";
 *
 * declare const sql: { query(text: string, values: unknown[]): Promise<unknown> };
 * try {
 *   const { text, values } = await notifyStatement("orders", { id: 42 });
 *   await sql.query(text, values);
 * } catch (error) {
 *   console.error(harkError(error).code); // such as NO_SCHEMA
 * }
 * ```
 */
export function harkError(error: unknown): HarkError {
  const translated = translate(error);
  const server = serverError(translated);
  // A value that PostgreSQL cannot store.
  const isPayload = translated.code === "DATABASE" && server !== undefined &&
    /^(22P05|22P02|22021|54000|54001)$/.test(server.code);
  if (!isPayload) return translated;
  return new HarkError(
    "BAD_PAYLOAD",
    `PostgreSQL cannot store this: ${server.message ?? messageOf(translated.cause)}`,
    { cause: translated.cause },
  );
}

/** Runs a publishing statement, and translates what it throws. */
export async function published<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw harkError(error);
  }
}
