/**
 * Schemas that check rows: any library's that follows Standard Schema.
 *
 * @module
 */

import { DeadLetter } from "../consume/outcomes.ts";

/**
 * What a schema has to have: Standard Schema, version 1 (https://standardschema.dev). Those of Zod,
 * Valibot, ArkType, Effect and others do.
 */
export interface RowSchema<Input = unknown, Output = Input> {
  /** The part that all these libraries have in common. */
  readonly "~standard": {
    /** The version of the standard. */
    readonly version: 1;
    /** The library. */
    readonly vendor: string;
    /** Checks a value, at once or later, and may turn it into another. */
    readonly validate: (
      value: unknown,
    ) => RowSchemaResult<Output> | Promise<RowSchemaResult<Output>>;
    /** What goes in and what comes out, for the compiler only. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** What a schema makes of a value: another one, or what is wrong with it. */
export type RowSchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly RowSchemaIssue[] };

/** One thing that is wrong with a value. */
export interface RowSchemaIssue {
  /** What is wrong. */
  readonly message: string;
  /** Where in the value. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What comes out of a schema. */
export type RowOf<Schema extends RowSchema> = NonNullable<
  Schema["~standard"]["types"]
>["output"];

/** What goes into a schema. */
export type InputOf<Schema extends RowSchema> = NonNullable<
  Schema["~standard"]["types"]
>["input"];

/** More issues than this are counted, not told. */
const told = 20;

/** What a schema makes of a row, at once where the schema can. @throws {DeadLetter} where it does not fit. */
export function fitted(schema: RowSchema, row: unknown, what: string): unknown {
  const result = schema["~standard"].validate(row);
  return result instanceof Promise
    ? result.then((later) => valueOf(later, what))
    : valueOf(result, what);
}

function valueOf(result: RowSchemaResult<unknown>, what: string): unknown {
  if (result.issues === undefined) return result.value;
  const { issues } = result;
  const texts = issues.slice(0, told).map(({ message, path = [] }) => {
    const names = path.map((step) => String(typeof step === "object" ? step.key : step));
    return names.length === 0 ? message : `${names.join(".")}: ${message}`;
  });
  const more = issues.length > told ? `; and ${issues.length - told} more` : "";
  throw new DeadLetter(`${what} does not fit its schema: ${texts.join("; ")}${more}`, {
    cause: issues,
  });
}
