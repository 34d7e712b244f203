/**
 * Times on their way from the server.
 *
 * @module
 */

/** A column as milliseconds: drivers differ in what they make of a timestamptz. */
export function ms(column: string): string {
  return `(extract(epoch from ${column}) * 1000)::float8 as ${column}`;
}

/** A time from milliseconds, as {@linkcode ms} gives them. */
export function date(value: unknown): Date | null {
  return value === null ? null : new Date(Number(value));
}
