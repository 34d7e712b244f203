/**
 * Turns errors of drivers and of the server into Hark's errors.
 *
 * @module
 */

import { HarkError } from "../errors.ts";
import { kindOf } from "../show.ts";
import { chainOf, codesIn, serverError, sqlState } from "./driver_error.ts";
import { ofServer, type Translation } from "./server_errors.ts";

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
  // postgres.js
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
  "CONNECT_TIMEOUT",
]);

/** The message of an error, if it has one. */
export function messageOf(error: unknown): string {
  try {
    // It may hold itself; then the stack overflows here.
    if (error instanceof AggregateError && error.message === "") {
      return error.errors.map(messageOf).join("; ");
    }
    if (error instanceof Error) return String(error.message) || String(error);
    if (typeof error !== "object" || error === null) return String(error);
    const { message } = error as { readonly message?: unknown };
    if (typeof message === "string" && message !== "") return message;
    return `${withFields(error)} was thrown, which is no Error`;
  } catch {
    return "an object was thrown, which is no Error"; // a getter or a Proxy of it throws
  }
}

/**
 * A thrown value, or an error in its place if looking at the value throws: a getter of it, or a
 * Proxy.
 */
export function readable(error: unknown): unknown {
  if (error === null || typeof error !== "object" && typeof error !== "function") return error;
  try {
    const fields = error as Readonly<Record<string, unknown>>;
    for (const name of ["name", "message", "code", "cause", "stack", "delay"]) void fields[name];
    void (error instanceof Error);
    return error;
  } catch {
    return new Error("a value was thrown that cannot be read: a getter or a Proxy of it throws");
  }
}

/** A thrown object that is no error. Its fields are only named: they may be secret. */
function withFields(object: object): string {
  const names = Array.isArray(object) ? [] : Object.keys(object).slice(0, 10);
  return `${kindOf(object)}${names.length === 0 ? "" : ` with ${names.join(", ")}`}`;
}

/**
 * Turns any error into a {@linkcode HarkError}. A HarkError is returned as it is.
 *
 * @param role The role of the connection, for the remedy, if it is known.
 */
export function translate(error: unknown, role?: string): HarkError {
  if (error instanceof HarkError) return error;
  const server = serverError(error);
  const [kind, message, remedy] = server === undefined
    ? ofDriver(error)
    : ofServer(server, server.message ?? messageOf(error), role);
  return new HarkError(
    kind,
    message,
    remedy === undefined ? { cause: error } : { cause: error, remedy },
  );
}

/** Translates an error of the driver itself: one of the connection, not of a statement. */
function ofDriver(error: unknown): Translation {
  const chain = chainOf(error);
  const message = messageOf(chain.at(-1));
  if (codesIn(error).some((code) => network.has(code))) {
    return [
      "UNREACHABLE",
      `no connection to PostgreSQL: ${message}`,
      "Check that the server runs and that the URL is right.",
    ];
  }
  for (const one of chain) {
    const known = ofConnection(one, messageOf(one));
    if (known !== undefined) return known;
  }
  return ["DATABASE", message];
}

/** What a driver says of a connection, in words only. Undefined if it is about something else. */
function ofConnection(error: unknown, message: string): Translation | undefined {
  if ((error as Error | undefined)?.name === "NotCapable") {
    return [
      "UNREACHABLE",
      message,
      message.includes("read access to")
        ? "Give --allow-read for the files that sslrootcert, sslcert and sslkey of the URL name."
        : "Give --allow-net for the database's host, and --allow-env=PG* or --ignore-env.",
    ];
  }
  if (
    /^(Query read timeout|timeout expired|timeout exceeded when trying to connect)|due to connection timeout/
      .test(message)
  ) {
    return [
      "TIMEOUT",
      `the server did not answer in time (${message})`,
      "Check the network and the load of the server.",
    ];
  }
  if (/server does not support SSL/i.test(message)) {
    return [
      "UNREACHABLE",
      message,
      "Turn TLS on in the server. Or give sslmode=disable if the network is your own.",
    ];
  }
  if (/certificate|altnames/i.test(message)) {
    return [
      "UNREACHABLE",
      `the server's certificate is not trusted: ${message}`,
      "Give sslrootcert=FILE with the authority's certificate, and the host's name that the certificate has.",
    ];
  }
  if (/after calling end on the pool/.test(message)) {
    return ["UNREACHABLE", "this database has been closed", "Connect again."];
  }
  if (
    /Connection terminated|not queryable|Client was closed|closed the connection/i.test(message)
  ) {
    return ["UNREACHABLE", message, "The connection is gone; try again."];
  }
  if (/SASL|SCRAM|password/i.test(message)) {
    return ["UNREACHABLE", `the login failed: ${message}`, "Give user and password in the URL."];
  }
  return undefined;
}

/** Runs a function and translates the errors that it throws; `role` as for {@linkcode translate}. */
export async function translated<T>(
  run: () => Promise<T>,
  role?: () => string | undefined,
): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw translate(error, role?.());
  }
}

/**
 * Whether an error is temporary: caused by the connection, by the server's state or by its load,
 * and not by a missing right or a wrong option.
 */
export function isPassing(error: HarkError): boolean {
  switch (error.code) {
    case "UNREACHABLE":
    case "TIMEOUT":
    case "NOT_PRIMARY":
    case "FENCED":
    case "WINDOW_LOST":
    case "REPLICA_BEHIND":
      return true;
    case "DATABASE": {
      const code = sqlState(error);
      return code === undefined
        ? codesIn(error).some((one) => /^(EC|EP|ET|EH)/.test(one))
        : /^(08|40|53|55|57|58|XX)/.test(code);
    }
    default:
      return false;
  }
}
