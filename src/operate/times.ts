/**
 * Times as the server returns them.
 *
 * @module
 */

/**
 * SQL for a timestamptz column as milliseconds, because drivers turn a timestamptz into different
 * types.
 */
export function ms(column: string, name: string = column): string {
  return `(extract(epoch from ${column}) * 1000)::float8 as ${name}`;
}

/** The time for the milliseconds that {@linkcode ms} selects; null for null. */
export function date(value: unknown): Date | null {
  return value === null ? null : new Date(Number(value));
}
