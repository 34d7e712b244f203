/**
 * What the errors that the server reports mean.
 *
 * @module
 */

import type { HarkErrorCode } from "../errors.ts";
import type { ServerError } from "./driver_error.ts";
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
  HK009: "REPLICA_BEHIND",
};

/** What is wrong with a notification, by the constraint that hark.refuse names. */
const constraints: Record<string, HarkErrorCode> = {
  channel_is_1_to_200_characters: "BAD_CHANNEL",
  key_is_at_most_1000_characters: "BAD_PAYLOAD",
  headers_are_an_object: "BAD_PAYLOAD",
};

/** What an error becomes. */
export type Translation = [kind: HarkErrorCode, message: string, remedy?: string];

/**
 * Translates an error that the server reported, by its SQLSTATE. It may come from a statement of
 * the user's own.
 */
export function ofServer(
  { code, hint, constraint }: ServerError,
  message: string,
  role?: string,
): Translation {
  const plain: Translation = hint === undefined
    ? ["DATABASE", message]
    : ["DATABASE", message, hint];
  if (own[code] !== undefined) {
    const kind = constraints[constraint ?? ""] ?? own[code];
    return hint === undefined ? [kind, message] : [kind, message, hint];
  }
  switch (code) {
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
    case "0A000":
    case "55000":
    case "XX000":
      // "recovery is in progress"; "cannot assign TransactionIds during recovery"; "cannot access temporary or
      // unlogged relations during recovery"
      if (!/recovery is in progress|during recovery/.test(message)) return plain;
      return ["NOT_PRIMARY", `this server is a standby: ${message}`, "Connect to the primary."];
    case "25006":
      // A standby says the same of all its transactions.
      return [
        "NOT_PRIMARY",
        `this transaction is read-only: ${message}`,
        "Connect to the primary, or begin it READ WRITE.",
      ];
  }
  return /^(08|57P)/.test(code)
    ? ["UNREACHABLE", message, "The connection is gone; try again."]
    : plain;
}

/** What each kind of rights is for. */
const purposes = {
  publish: "to publish",
  read: "to read",
  consume: "to run consumers",
  operate: "to operate",
  observe: "to look only",
} as const;
type Kind = keyof typeof purposes;
const kinds = Object.keys(purposes) as Kind[];

/**
 * What a missing right would allow, and the remedy, as far as the server's message says which right
 * it is. The lists of functions and tables come from sql/, so that they cannot become stale.
 */
function noPermission(message: string, role = "role"): Translation {
  const grant = (kind: Kind) => `hark.grant_${kind}('${role.replaceAll("'", "''")}')`;
  const choice = (some: readonly Kind[]) =>
    some.map((kind) => `${grant(kind)} ${purposes[kind]}`).join(", or ");
  if (/schema "?hark"?$/.test(message)) {
    return [
      "NO_PERMISSION",
      message,
      `As the schema's owner: select ${choice(kinds)}.`,
    ];
  }
  const [, what, name = ""] = /(function|table) "?(\w+)"?$/.exec(message) ?? [];
  if (what === "table" ? rights.tables.includes(name) : /^(grant|revoke)_\w+$/.test(name)) {
    return ["NO_PERMISSION", message, "Only the owner of the schema may do this."];
  }
  const missing = what === "function" ? kinds.filter((kind) => rights[kind].includes(name)) : [];
  if (missing.length === 0) return ["NO_PERMISSION", message];
  // The function's name alone says nothing to a reader of the message.
  return [
    "NO_PERMISSION",
    `this role may not ${missing.join(" or ")}: ${message}`,
    `As the schema's owner: select ${missing.length === 1 ? grant(missing[0]!) : choice(missing)}.`,
  ];
}
