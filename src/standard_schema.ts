/**
 * Schemas of any library that implements Standard Schema (https://standardschema.dev).
 *
 * @module
 */

/**
 * The interface of a schema: Standard Schema, version 1. Schemas of Zod, Valibot, ArkType, Effect
 * and others implement it.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  /** The property that all these libraries share. */
  readonly "~standard": {
    /** The version of the standard. */
    readonly version: 1;
    /** The name of the library. */
    readonly vendor: string;
    /** Validates a value, synchronously or not, and may transform it. */
    readonly validate: (
      value: unknown,
    ) => StandardResult<Output> | Promise<StandardResult<Output>>;
    /** The input and output types, for the compiler only. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
    /** Describes the schema as JSON Schema. Zod 4 and ArkType have it, Valibot does not. */
    readonly jsonSchema?: {
      /** Describes what the schema takes. */
      readonly input: (
        options: { readonly target: "draft-2020-12" },
      ) => Record<string, unknown>;
    } | undefined;
  };
}

/** The result of a validation: a value, or the issues found. */
export type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] };

/** One issue that a validation found. */
export interface StandardIssue {
  /** The description of the issue. */
  readonly message: string;
  /** The path to the issue inside the value. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** The type that a schema takes. */
export type SchemaInput<Schema extends StandardSchema> = NonNullable<
  Schema["~standard"]["types"]
>["input"];

/** The type that a schema makes of its input. */
export type SchemaOutput<Schema extends StandardSchema> = NonNullable<
  Schema["~standard"]["types"]
>["output"];

/** The number of issues that a message lists. Further issues are only counted. */
const told = 20;

/** The issues as one line, each with its path: `items.2.price: expected number`. */
export function issuesText(issues: readonly StandardIssue[]): string {
  const texts = issues.slice(0, told).map(({ message, path = [] }) => {
    const names = path.map((step) => String(typeof step === "object" ? step.key : step));
    return names.length === 0 ? message : `${names.join(".")}: ${message}`;
  });
  const more = issues.length > told ? `; and ${issues.length - told} more` : "";
  return `${texts.join("; ")}${more}`;
}

/** Whether a value is a schema. ArkType's are functions. */
export function isSchema(value: unknown): value is StandardSchema {
  return (typeof value === "object" && value !== null || typeof value === "function") &&
    typeof (value as Partial<StandardSchema>)["~standard"]?.validate === "function";
}
