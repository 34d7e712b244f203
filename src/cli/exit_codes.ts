/**
 * Exit codes, and the sentence for an error.
 *
 * @module
 */

import { HarkError, type HarkErrorCode } from "../errors.ts";

/** The exit codes that a script can tell apart. */
export const exitCodes = {
  /** Done, or ended in order by a signal. */
  ok: 0,
  /** The work failed. */
  failed: 1,
  /** The arguments, a file or standard input are wrong. */
  usage: 2,
  /** The database could not be reached. */
  unreachable: 3,
  /** The schema is missing, or has another version than this program needs. */
  schema: 4,
  /** A second Ctrl-C, which ends the program at once. */
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
  REPLICA_BEHIND: exitCodes.unreachable,
  EMBEDDED: exitCodes.unreachable,
  NO_SCHEMA: exitCodes.schema,
  SCHEMA_OLD: exitCodes.schema,
  SCHEMA_NEW: exitCodes.schema,
};

/** The exit code for an error. */
export function exitCodeOf(error: unknown): number {
  return isHarkError(error) ? byCode[error.code] ?? exitCodes.failed : exitCodes.failed;
}

/** The sentence for an error. One that is not Hark's is a defect or a handler's: its class is named. */
export function sentenceOf(error: unknown): string {
  if (isHarkError(error)) return error.message;
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

/** Also an error of another copy of the package, which a consumer's module may have imported. */
function isHarkError(error: unknown): error is HarkError {
  return error instanceof HarkError || (error instanceof Error && error.name === "HarkError");
}
