/**
 * Turns errors of drivers and of the server into Hark's errors.
 *
 * @module
 */

import { HarkError, type HarkErrorCode } from "../errors.ts";
import { kindOf } from "../show.ts";
import { chainOf, codesIn, type ServerError, serverError, sqlState } from "./driver_error.ts";
import rights from "./rights.json" with { type: "json" };

/** The SQLSTATEs that Hark's own SQL functions raise. */
const own: Record<string, HarkErrorCode> = {
  HK001: "IN_TRANSACTION",
  HK002: "IN_TRANSACTION",
  HK003: "NOT_PRIMARY",
  HK004: "WINDOW_LOST",
  HK005: "FENCED",
  HK006: "BAD_OPTION",
  HK007: "NO_CONSUMER",
  HK008: "CONFLICT",
};

const constraints: Record<string, [HarkErrorCode, string]> = {
  channel_is_1_to_200_characters: ["BAD_CHANNEL", "Give a channel of 1 to 200 characters."],
  key_is_at_most_1000_characters: ["BAD_PAYLOAD", "Give a key of at most 1,000 characters."],
  headers_are_an_object: ["BAD_PAYLOAD", "Give headers as an object."],
  schedule_name_is_1_to_200_characters: ["BAD_OPTION", "Give a name of 1 to 200 characters."],
  cron_is_1_to_200_characters: ["BAD_OPTION", "Give a cron pattern such as 0 3 * * *."],
  timezone_is_1_to_100_characters: ["BAD_OPTION", "Give a time zone such as Europe/Berlin."],
  missed_is_once_or_skip: ["BAD_OPTION", "Give once or skip."],
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

type Translation = [kind: HarkErrorCode, message: string, remedy?: string];

/**
 * Translates an error that the server reported, by its SQLSTATE. It may come from a statement of
 * the user's own.
 */
function ofServer(
  { code, hint, constraint }: ServerError,
  message: string,
  role?: string,
): Translation {
  const plain: Translation = hint === undefined
    ? ["DATABASE", message]
    : ["DATABASE", message, hint];
  if (own[code] !== undefined) {
    return hint === undefined ? [own[code], message] : [own[code], message, hint];
  }
  switch (code) {
    case "23514": {
      const known = constraints[constraint ?? ""];
      return known === undefined ? plain : [known[0], message, known[1]];
    }
    case "3F000":
    case "42883":
    case "42P01":
      if (!/"hark"|\bhark\./.test(message)) return plain;
      return [
        "NO_SCHEMA",
        `the schema "hark" is not installed in this database, is incomplete, or has another version (${message})`,
        "Run `hark init`, or call migrate(db).",
      ];
    case "42501":
      return hint === undefined ? noPermission(message, role) : ["NO_PERMISSION", message, hint];
    case "28P01":
    case "28000":
      return [
        "UNREACHABLE",
        `the server refused the login: ${message}`,
        /no (encryption|SSL off|SSL)/i.test(message)
          ? "Give sslmode=verify-full in the URL if the server asks for TLS, or allow the login in pg_hba.conf."
          : /pg_hba\.conf/.test(message)
          ? "Allow the login in the server's pg_hba.conf."
          : "Check the user and the password.",
      ];
    case "3D000":
      return ["UNREACHABLE", message, "Create the database, or correct its name in the URL."];
    case "55000":
    case "XX000":
      // "recovery is in progress"; "cannot assign TransactionIds during recovery"
      if (!/recovery is in progress|during recovery/.test(message)) return plain;
      return ["NOT_PRIMARY", `this server is a standby: ${message}`, "Connect to the primary."];
    case "25006":
      return ["NOT_PRIMARY", `this server is read-only: ${message}`, "Connect to the primary."];
  }
  return /^(08|57P)/.test(code)
    ? ["UNREACHABLE", message, "The connection is gone; try again."]
    : plain;
}

/**
 * What a missing right would allow, and the remedy, as far as the server's message says which right
 * it is. The lists of functions and tables come from sql/, so that they cannot become stale.
 */
function noPermission(message: string, role = "role"): Translation {
  const grant = (kind: string) => `hark.grant_${kind}('${role.replaceAll("'", "''")}')`;
  if (/schema "?hark"?$/.test(message)) {
    return [
      "NO_PERMISSION",
      message,
      `As the schema's owner: select ${grant("publish")} to publish, ${grant("consume")} to ` +
      `read, or ${grant("operate")} to operate, such as to retry and to clean up.`,
    ];
  }
  const [, what, name = ""] = /(function|table) "?(\w+)"?$/.exec(message) ?? [];
  if (what === "table" ? rights.tables.includes(name) : /^grant_\w+$/.test(name)) {
    return ["NO_PERMISSION", message, "Only the owner of the schema may do this."];
  }
  const kinds = what !== "function"
    ? []
    : (["publish", "consume", "operate"] as const).filter((kind) => rights[kind].includes(name));
  if (kinds.length === 0) return ["NO_PERMISSION", message];
  // The function's name alone says nothing to a reader of the message.
  return [
    "NO_PERMISSION",
    `this role may not ${kinds.join(" or ")}: ${message}`,
    `As the schema's owner: select ${kinds.map(grant).join(" or ")}.`,
  ];
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
      "Give --allow-net for the database's host, and --allow-env=PG* or --ignore-env.",
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
 * Runs a publishing statement. An error for a value that PostgreSQL cannot store becomes
 * `BAD_PAYLOAD`.
 */
export async function published<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const translated = translate(error);
    const server = serverError(translated);
    if (
      translated.code === "DATABASE" && server !== undefined &&
      /^(22P05|22P02|22021|54000|54001)$/.test(server.code)
    ) {
      throw new HarkError(
        "BAD_PAYLOAD",
        `PostgreSQL cannot store this: ${server.message ?? messageOf(translated.cause)}`,
        {
          cause: translated.cause,
        },
      );
    }
    throw translated;
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
