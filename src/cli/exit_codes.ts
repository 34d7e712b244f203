/**
 * Exit codes, and what is said of an error.
 *
 * @module
 */

import { HarkError, type HarkErrorCode } from "../errors.ts";

/** What a script can tell apart. */
export const exitCodes = {
  /** Done, or ended by a signal in order. */
  ok: 0,
  /** The job failed. */
  failed: 1,
  /** The arguments, or what was read from files and standard input, are wrong. */
  usage: 2,
  /** The database was not reached. */
  unreachable: 3,
  /** The schema is missing, or of another version than this program's. */
  schema: 4,
  /** A second Ctrl-C, which ends at once. */
  interrupted: 130,
} as const;

const byCode: Partial<Record<HarkErrorCode, number>> = {
  BAD_OPTION: exitCodes.usage,
  BAD_CHANNEL: exitCodes.usage,
  BAD_PAYLOAD: exitCodes.usage,
  NO_CONSUMER: exitCodes.usage,
  UNREACHABLE: exitCodes.unreachable,
  TIMEOUT: exitCodes.unreachable,
  NOT_PRIMARY: exitCodes.unreachable,
  EMBEDDED: exitCodes.unreachable,
  NO_SCHEMA: exitCodes.schema,
  SCHEMA_OLD: exitCodes.schema,
  SCHEMA_NEW: exitCodes.schema,
};

/** The exit code of an error. */
export function exitCodeOf(error: unknown): number {
  return isHarkError(error) ? byCode[error.code] ?? exitCodes.failed : exitCodes.failed;
}

/** What to say of an error. One that is not Hark's is a defect or a handler's: its kind is named. */
export function sentenceOf(error: unknown): string {
  if (isHarkError(error)) return error.message;
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

/** Also of another copy of the package, which a module of consumers may have imported. */
function isHarkError(error: unknown): error is HarkError {
  return error instanceof HarkError || (error instanceof Error && error.name === "HarkError");
}
