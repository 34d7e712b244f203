/**
 * Turns what drivers and the server report into Hark's errors.
 *
 * @module
 */

import { HarkError, type HarkErrorCode } from "../errors.ts";

interface DriverError {
  readonly code?: unknown;
  readonly message?: unknown;
  readonly hint?: unknown;
  readonly constraint?: unknown;
  readonly constraint_name?: unknown;
}

/** SQLSTATEs raised by Hark's own functions (sql/002_windows.sql and after). */
const own: Record<string, HarkErrorCode> = {
  HK001: "IN_TRANSACTION",
  HK002: "IN_TRANSACTION",
  HK003: "NOT_PRIMARY",
  HK004: "WINDOW_LOST",
  HK005: "FENCED",
  HK006: "BAD_OPTION",
  HK007: "NO_CONSUMER",
};

const constraints: Record<string, [HarkErrorCode, string]> = {
  channel_is_1_to_200_characters: ["BAD_CHANNEL", "Give a channel of 1 to 200 characters."],
  key_is_at_most_1000_characters: ["BAD_PAYLOAD", "Give a key of at most 1,000 characters."],
  headers_are_an_object: ["BAD_PAYLOAD", "Give headers as an object."],
};

const network = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
]);

/** The sentence of an error, where it has one. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === "") {
    return error.errors.map(messageOf).join("; ");
  }
  if (error instanceof Error) return error.message || String(error);
  return String(error);
}

/** Turns any error into a {@linkcode HarkError}; one that is one already is returned as it is. */
export function translate(error: unknown): HarkError {
  if (error instanceof HarkError) return error;
  const { code, hint, constraint, constraint_name } = (error ?? {}) as DriverError;
  const message = messageOf(error);
  const make = (kind: HarkErrorCode, text: string, remedy?: string): HarkError =>
    new HarkError(kind, text, remedy === undefined ? { cause: error } : { cause: error, remedy });

  if (typeof code === "string") {
    if (own[code] !== undefined) {
      return make(own[code], message, typeof hint === "string" ? hint : undefined);
    }
    const violated = constraints[String(constraint ?? constraint_name)];
    if (code === "23514" && violated !== undefined) return make(violated[0], message, violated[1]);
    if (code === "3F000" || ((code === "42883" || code === "42P01") && /\bhark\./.test(message))) {
      return make(
        "NO_SCHEMA",
        `the schema "hark" is not in this database, or not whole (${message})`,
        "Run `hark init`, or call migrate(db).",
      );
    }
    if (code === "42501") {
      return make(
        "NO_PERMISSION",
        message,
        "As the schema's owner: select hark.grant_publish('role'), hark.grant_consume('role').",
      );
    }
    if (code === "28P01" || code === "28000") {
      return make(
        "UNREACHABLE",
        `the server refused the login: ${message}`,
        "Check user and password.",
      );
    }
    if (code === "3D000") {
      return make("UNREACHABLE", message, "Create the database, or correct its name in the URL.");
    }
    if (code === "25006") {
      return make("NOT_PRIMARY", `this server is read-only: ${message}`, "Connect to the primary.");
    }
    if (code === "22P05" || code === "22P02" || code === "54000" || code === "22021") {
      return make("BAD_PAYLOAD", `PostgreSQL cannot store this: ${message}`);
    }
    if (network.has(code)) {
      return make(
        "UNREACHABLE",
        `no connection to PostgreSQL: ${message}`,
        "Check that it runs, and the URL.",
      );
    }
    if (/^(08|57P)/.test(code)) {
      return make("UNREACHABLE", message, "The connection is gone; try again.");
    }
  }
  if (
    /^(Query read timeout|timeout expired|timeout exceeded when trying to connect)|due to connection timeout/
      .test(message)
  ) {
    return make(
      "TIMEOUT",
      `the server did not answer in time (${message})`,
      "Check the network and its load.",
    );
  }
  if (
    /Connection terminated|not queryable|Client was closed|closed the connection/i.test(message)
  ) {
    return make("UNREACHABLE", message, "The connection is gone; try again.");
  }
  if (/SASL|SCRAM|password/i.test(message)) {
    return make(
      "UNREACHABLE",
      `the login failed: ${message}`,
      "Give user and password in the URL.",
    );
  }
  return make("DATABASE", message, typeof hint === "string" && hint !== "" ? hint : undefined);
}

/** Runs something and translates what it throws. */
export async function translated<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw translate(error);
  }
}

/**
 * Whether an error may pass by itself: the connection, the server's state or its load, but not a
 * missing right or a wrong option.
 */
export function isPassing(error: HarkError): boolean {
  switch (error.code) {
    case "UNREACHABLE":
    case "TIMEOUT":
    case "NOT_PRIMARY":
    case "FENCED":
    case "WINDOW_LOST":
      return true;
    case "DATABASE": {
      const code = (error.cause as DriverError | undefined)?.code;
      return typeof code === "string" && /^(08|40|53|55|57|58|XX|EC|EP|ET|EH)/.test(code);
    }
    default:
      return false;
  }
}
