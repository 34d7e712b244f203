/**
 * The errors Hark throws: one base class, a stable code for programs, a sentence for people.
 *
 * @module
 */

/**
 * What went wrong, for programs. The values are stable; new ones may be added.
 *
 * - `BAD_OPTION`: an argument or option has a wrong type or value.
 * - `BAD_CHANNEL`: a channel name is empty, over 200 characters, or not text.
 * - `BAD_PAYLOAD`: a payload, key or header cannot be stored as `jsonb` or text.
 * - `UNREACHABLE`: no server answered, or it refused the login or the database.
 * - `NOT_PRIMARY`: the server is a standby, which can neither LISTEN nor say what is running.
 * - `NO_SCHEMA`: the schema `hark` is not installed in this database.
 * - `SCHEMA_OLD`: the installed schema is older than this program needs.
 * - `SCHEMA_NEW`: the installed schema is newer than this program knows.
 * - `NO_PERMISSION`: the role lacks a right that the call needs.
 * - `FENCED`: another worker has taken over what this one served.
 * - `OUTDATED`: the consumer was changed by a worker with other channels, another filter or so.
 * - `WINDOW_LOST`: the server crashed or changed under an open snapshot window.
 * - `IN_TRANSACTION`: the call needs a transaction of its own, READ COMMITTED, with nothing written.
 * - `NO_CONSUMER`: a consumer of that name, or a module that exports one, does not exist.
 * - `CONFLICT`: what is stored contradicts what was asked for.
 * - `TIMEOUT`: the server did not answer in the time given.
 * - `EMBEDDED`: the embedded server could not be found, made, started or stopped.
 * - `DATABASE`: any other error of the server; `cause` is the driver's error.
 */
export type HarkErrorCode =
  | "BAD_OPTION"
  | "BAD_CHANNEL"
  | "BAD_PAYLOAD"
  | "UNREACHABLE"
  | "NOT_PRIMARY"
  | "NO_SCHEMA"
  | "SCHEMA_OLD"
  | "SCHEMA_NEW"
  | "NO_PERMISSION"
  | "FENCED"
  | "OUTDATED"
  | "WINDOW_LOST"
  | "IN_TRANSACTION"
  | "NO_CONSUMER"
  | "CONFLICT"
  | "TIMEOUT"
  | "EMBEDDED"
  | "DATABASE";

/** Options of {@linkcode HarkError}: the underlying error, and what to do about it. */
export interface HarkErrorOptions extends ErrorOptions {
  /** What the reader can do next, one sentence. It is appended to the message. */
  readonly remedy?: string;
}

/**
 * An error of Hark's. The message says what happened, with the value, and what to do next;
 * `cause` keeps the underlying error.
 *
 * @example
 * ```ts
 * import { HarkError } from "@hark/postgres";
 *
 * const error = new HarkError("BAD_CHANNEL", 'channel "" is empty', {
 *   remedy: "Give a name of 1 to 200 characters.",
 * });
 * console.log(error.code, error.message);
 * ```
 */
export class HarkError extends Error {
  /** The stable code to branch on. */
  readonly code: HarkErrorCode;
  /** What to do next, where there is something to do. */
  readonly remedy: string | undefined;

  /** Makes an error from its code, its sentence and, where there is one, its remedy and cause. */
  constructor(code: HarkErrorCode, message: string, options: HarkErrorOptions = {}) {
    const { remedy, ...rest } = options;
    super(remedy === undefined ? message : `${message}. ${remedy}`, rest);
    this.name = "HarkError";
    this.code = code;
    this.remedy = remedy;
  }
}
