/**
 * The errors that Hark throws. They share one base class. Each has a stable code for programs and a
 * message for people.
 *
 * @module
 */

import { sqlState } from "./database/driver_error.ts";

/**
 * What went wrong, as a code for programs. The values are stable; later versions may add new ones.
 *
 * - `BAD_OPTION`: an argument or option has a wrong type or value.
 * - `BAD_CHANNEL`: a channel name is empty, is longer than 200 characters, or is not text.
 * - `BAD_PAYLOAD`: a payload, key or header cannot be stored as `jsonb` or text, or a payload does
 *   not fit the schema of its channel.
 * - `UNREACHABLE`: no server answered, or the server refused the login or the database.
 * - `NOT_PRIMARY`: the server is a standby, or the transaction is read-only. A standby cannot LISTEN,
 *   and cannot tell which transactions are running.
 * - `NO_SCHEMA`: the schema `hark` is not installed in this database.
 * - `SCHEMA_OLD`: the installed schema is older than this program needs.
 * - `SCHEMA_NEW`: the installed schema is newer than this program knows.
 * - `NO_PERMISSION`: the role lacks a right that the call needs.
 * - `FENCED`: another worker has taken over the partitions that this worker served.
 * - `OUTDATED`: another worker changed the consumer's definition, such as its channels or its
 *   filter.
 * - `WINDOW_LOST`: the server crashed, or was replaced by another one, since the mark was cut at
 *   which the reader stands.
 * - `REPLICA_BEHIND`: the replica has not replayed as far as what is to be read.
 * - `IN_TRANSACTION`: the call needs a READ COMMITTED transaction of its own, with nothing written
 *   in it.
 * - `NO_CONSUMER`: no consumer or inbox of that name exists, or no module that exports a consumer or a
 *   channel.
 * - `CONFLICT`: the stored state contradicts the request.
 * - `TIMEOUT`: the server did not answer within the allowed time.
 * - `DESTINATION`: the target of a relay, the source of an inbox, or the URL of a wake cannot do what
 *   was asked: there is no such stream, or it does not allow it.
 * - `EMBEDDED`: the embedded server could not be found, created, started or stopped.
 * - `DATABASE`: any other error of the server. `cause` is the driver's error.
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
  | "REPLICA_BEHIND"
  | "IN_TRANSACTION"
  | "NO_CONSUMER"
  | "CONFLICT"
  | "TIMEOUT"
  | "DESTINATION"
  | "EMBEDDED"
  | "DATABASE";

/** Options of {@linkcode HarkError}: the underlying error, and what to do about it. */
export interface HarkErrorOptions extends ErrorOptions {
  /** What the caller can do next, in one sentence. The constructor appends it to the message. */
  readonly remedy?: string;
}

/**
 * An error that Hark throws. The message says what happened, with the value, and what to do next.
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
  /** The stable code, for programs to branch on. */
  readonly code: HarkErrorCode;
  /** What to do next; undefined if there is nothing to do. */
  readonly remedy: string | undefined;

  /** Creates an error from a code, a message and, if given, a remedy and a cause. */
  constructor(code: HarkErrorCode, message: string, options: HarkErrorOptions = {}) {
    const { remedy, ...rest } = options;
    super(remedy === undefined ? message : `${message}. ${remedy}`, rest);
    this.name = "HarkError";
    this.code = code;
    this.remedy = remedy;
  }

  /**
   * The SQLSTATE that the server reported, such as `"23505"`, wherever the driver keeps it in `cause`;
   * undefined if the server reported none.
   *
   * @see https://www.postgresql.org/docs/current/errcodes-appendix.html
   */
  get sqlState(): string | undefined {
    return sqlState(this.cause);
  }
}

/** The same error with the place of what was wrong before its message. */
export function errorAt(place: string, error: HarkError): HarkError {
  const { code, remedy, cause } = error;
  const message = remedy === undefined ? error.message : error.message.replace(`. ${remedy}`, "");
  return new HarkError(
    code,
    `${place}: ${message}`,
    remedy === undefined ? { cause } : { cause, remedy },
  );
}
