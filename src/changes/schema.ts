/**
 * Rows that a schema checks.
 *
 * @module
 */

import { DeadLetter } from "../consume/retry.ts";
import { issuesText, type StandardResult, type StandardSchema } from "../standard_schema.ts";

/**
 * Validates a row, synchronously if the schema can.
 * @throws {DeadLetter} if the row does not match the schema.
 */
export function fitted(schema: StandardSchema, row: unknown, what: string, where: string): unknown {
  const result = schema["~standard"].validate(row);
  return result instanceof Promise
    ? result.then((later) => valueOf(later, what, where))
    : valueOf(result, what, where);
}

function valueOf(result: StandardResult<unknown>, what: string, where: string): unknown {
  if (result.issues === undefined) return result.value;
  const { issues } = result;
  throw new DeadLetter(`${what} does not fit its schema: ${issuesText(issues)} ${where}`, {
    cause: issues,
  });
}
