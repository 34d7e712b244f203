/**
 * Fields that were given.
 *
 * @module
 */

/** The same fields. Those that may be undefined are optional instead: missing, and never undefined. */
export type Given<T> =
  & { readonly [Name in keyof T as undefined extends T[Name] ? never : Name]: T[Name] }
  & {
    readonly [Name in keyof T as undefined extends T[Name] ? Name : never]?: Exclude<
      T[Name],
      undefined
    >;
  };

/** Leaves out what is undefined: an optional property may be missing, not undefined. */
export function given<T extends object>(fields: T): Given<T> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as Given<T>;
}
