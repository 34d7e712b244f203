/**
 * The kind of an error, for attributes.
 *
 * @module
 */

/** A code of Hark's or of the server, else the name of the error's class. */
export function errorType(error: unknown): string {
  const { code, name } = (error ?? {}) as { readonly code?: unknown; readonly name?: unknown };
  if (typeof code === "string" && /^[A-Z0-9_]{2,40}$/.test(code)) return code;
  return typeof name === "string" && name !== "" ? name.slice(0, 80) : typeof error;
}
