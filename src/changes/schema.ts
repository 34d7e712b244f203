/**
 * Schemas that validate rows, from any library that implements Standard Schema.
 *
 * @module
 */

import { DeadLetter } from "../consume/retry.ts";
import { issuesText } from "../standard_schema.ts";

/**
 * The interface of a schema: Standard Schema, version 1 (https://standardschema.dev). Schemas of
 * Zod, Valibot, ArkType, Effect and others implement it.
 */
export interface RowSchema<Input = unknown, Output = Input> {
  /** The property that all these libraries share. */
  readonly "~standard": {
    /** The version of the standard. */
    readonly version: 1;
    /** The name of the library. */
    readonly vendor: string;
    /** Validates a value, synchronously or not, and may transform it. */
    readonly validate: (
      value: unknown,
    ) => RowSchemaResult<Output> | Promise<RowSchemaResult<Output>>;
    /** The input and output types, for the compiler only. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** The result of a validation: a value, or the issues found. */
export type RowSchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly RowSchemaIssue[] };

/** One issue that a validation found. */
export interface RowSchemaIssue {
  /** The description of the issue. */
  readonly message: string;
  /** The path to the issue inside the value. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** The output type of a schema. */
export type RowOf<Schema extends RowSchema> = NonNullable<
  Schema["~standard"]["types"]
>["output"];

/** The input type of a schema. */
export type InputOf<Schema extends RowSchema> = NonNullable<
  Schema["~standard"]["types"]
>["input"];

/**
 * Validates a row, synchronously if the schema can.
 * @throws {DeadLetter} if the row does not match the schema.
 */
export function fitted(schema: RowSchema, row: unknown, what: string): unknown {
  const result = schema["~standard"].validate(row);
  return result instanceof Promise
    ? result.then((later) => valueOf(later, what))
    : valueOf(result, what);
}

function valueOf(result: RowSchemaResult<unknown>, what: string): unknown {
  if (result.issues === undefined) return result.value;
  const { issues } = result;
  throw new DeadLetter(`${what} does not fit its schema: ${issuesText(issues)}`, {
    cause: issues,
  });
}
