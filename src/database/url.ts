/**
 * The URL of a database: what is one, and how it is shown without its secrets.
 *
 * @module
 */

import { bad, show, suggestion } from "../check.ts";
import { longestTimer } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { kindOf } from "../show.ts";
import type { Place } from "./queryable.ts";
import { ownVariable, urlFromVariables } from "./environment.ts";

/** What a URL looks like. It is shown as it is. */
const sample = "postgres://user:password@host:port/database";
const remedy = `Give ${sample}`;

/** Schemes that people give by mistake. Any other beginning may be part of a secret. */
const otherSchemes =
  /^(https?|wss?|file|jdbc|mysql|mariadb|mssql|sqlserver|sqlite|mongodb|redis|prisma|pg|psql)(\+\w+)?:/i;

/**
 * Checks the URL of a database. Without one it is made of the variables of libpq, such as PGHOST
 * and PGDATABASE. A text that is no URL is never part of the message: it may hold a
 * password in any form.
 *
 * @throws {HarkError} `BAD_OPTION`.
 */
export function databaseUrl(given: unknown): string {
  const url = given === undefined || given === "" ? urlFromVariables(ownVariable) : given;
  if (url === undefined) {
    throw new HarkError("BAD_OPTION", "there is no database URL", {
      remedy: `Set DATABASE_URL, or PGHOST, PGDATABASE and the like, or give ${
        remedy.slice("Give ".length)
      }.`,
    });
  }
  if (typeof url !== "string") throw noText(url);
  if (!/^postgres(ql)?:\/\//.test(url)) {
    throw refused(
      otherSchemes.test(url)
        ? `is ${place(url)}, of another kind`
        : /(^|\s)\w+\s*=/.test(url)
        ? 'has the form "host=… dbname=…", which is not a URL'
        : "is not a URL",
    );
  }
  if (!isReadable(url)) {
    // No cause here: the parser's error holds the whole URL with its password.
    throw refused("cannot be read", ", with special characters escaped (@ as %40, / as %2F)");
  }
  checkParameters(parametersOf(url));
  return url;
}

/** The database URL in an option. An error names the option. @throws {HarkError} `BAD_OPTION`. */
export function urlIn(option: string, given: string): string {
  try {
    return databaseUrl(given);
  } catch (error) {
    if (!(error instanceof HarkError) || error.remedy === undefined) throw error;
    const { code, message, remedy } = error;
    const reason = message.slice(0, -`. ${remedy}`.length);
    throw new HarkError(code, `${option}: ${reason}`, { remedy });
  }
}

function noText(given: unknown): HarkError {
  const { query, url } = (given ?? {}) as { readonly query?: unknown; readonly url?: unknown };
  const what = kindOf(given);
  return new HarkError("BAD_OPTION", `the database URL is ${what}`, {
    remedy: typeof query === "function"
      ? "It needs no connect(): give it to Hark's functions as it is."
      : typeof url === "string"
      ? "Give its url."
      : what === "a promise"
      ? "Await it."
      : `${remedy}.`,
  });
}

/** The scheme and the host of another kind of URL. */
function place(url: string): string {
  const [found] = /^[a-z+]+:(?:\/\/[^/]*)?/i.exec(shownUrl(url) || url)!;
  return withoutSecrets(found);
}

/** The ways to use TLS that `pg` knows. */
const tlsModes = ["disable", "prefer", "require", "verify-ca", "verify-full", "no-verify"];

/** The parameters that `pg` reads, with the values that it knows if they are few. */
const parameters: Readonly<Record<string, readonly string[] | undefined>> = {
  sslmode: tlsModes,
  sslrootcert: undefined,
  sslcert: undefined,
  sslkey: undefined,
  sslnegotiation: ["postgres", "direct"],
  ssl: ["true", "1", "false", "0", "no-verify"],
  uselibpqcompat: ["true", "false"],
  host: undefined,
  port: undefined,
  user: undefined,
  password: undefined,
  application_name: undefined,
  fallback_application_name: undefined,
  client_encoding: undefined,
  options: undefined,
  query_timeout: undefined,
  statement_timeout: undefined,
  lock_timeout: undefined,
  idle_in_transaction_session_timeout: undefined,
  // Hark's own.
  listen: ["on", "off"],
};

/**
 * What libpq and other programs read and `pg` passes over, with what to give instead. Without that
 * it is passed over in silence: URLs of hosters have such parameters, and nothing is lost.
 */
const passedOver: Readonly<Record<string, string | undefined>> = {
  connect_timeout: "Give connectTimeout to connect() instead.",
  pool_timeout: "Give connectTimeout to connect() instead.",
  connection_limit: "Give poolSize to connect() instead.",
  pgbouncer: "Give listen=off in its place.",
  channel_binding: undefined,
  gssencmode: undefined,
  keepalives: undefined,
  keepalives_idle: undefined,
  schema: undefined,
  target_session_attrs: undefined,
};

/** What to tell of parameters that have no effect, for a URL that {@linkcode databaseUrl} took. */
export function withoutEffect(url: string): (readonly [name: string, instead: string])[] {
  return Object.entries(passedOver).flatMap(([name, instead]) =>
    instead !== undefined && parametersOf(url).has(name) ? [[name, instead] as const] : []
  );
}

/** Whether a URL lets its readers LISTEN. A pooler in transaction mode passes none on. */
export function letsListen(url: string): boolean {
  return parametersOf(url).get("listen") !== "off";
}

function parametersOf(url: string): URLSearchParams {
  return new URL(url.replace("@/", "@socket/")).searchParams;
}

/** Refuses unknown parameters: with a misspelt `sslmode`, `pg` connects without TLS. */
function checkParameters(given: URLSearchParams): void {
  const known = Object.keys(parameters);
  // With an @, a name may be part of a password with a "?" in it.
  const mayBeSecret = /@|%40/.test(String(given));
  for (const [name, value] of given) {
    if (!known.includes(name)) {
      if (Object.hasOwn(passedOver, name)) continue;
      const isShown = /^\w{1,40}$/.test(name) && !mayBeSecret;
      throw new HarkError(
        "BAD_OPTION",
        `the database URL has an unknown parameter${isShown ? ` ${show(name)}` : ""}`,
        { remedy: `${isShown ? suggestion(name, known) : ""}Known are: ${known.join(", ")}.` },
      );
    }
    if (durations.includes(name)) wholeMs(name, value);
    oneOf(`the parameter ${name} of the database URL`, value, parameters[name]);
  }
  const mode = given.has("sslmode") || given.has("ssl") ? undefined : ownVariable("PGSSLMODE");
  if (mode) oneOf("PGSSLMODE", mode, [...tlsModes, "allow"]);
}

function oneOf(name: string, value: string, known: readonly string[] | undefined): void {
  if (known === undefined || known.includes(value)) return;
  bad(name, value, `${suggestion(value, known)}Give one of: ${known.join(", ")}.`);
}

/** The parameters that `pg` takes as milliseconds. It would take `10s` for 10, and 2^31 for 1. */
const durations = [
  "query_timeout",
  "statement_timeout",
  "lock_timeout",
  "idle_in_transaction_session_timeout",
];

function wholeMs(name: string, value: string): void {
  if (/^\d{1,10}$/.test(value) && Number(value) <= longestTimer) return;
  throw new HarkError("BAD_OPTION", `the parameter ${name} of the database URL is ${show(value)}`, {
    remedy: `Give whole milliseconds from 0 to ${longestTimer}.`,
  });
}

function refused(what: string, more = ""): HarkError {
  return new HarkError("BAD_OPTION", `the database URL ${what}`, { remedy: `${remedy}${more}.` });
}

/**
 * Whether `pg` can parse the URL as it was meant. The folder of a Unix socket may take the place of
 * the host, as it may for `pg`. A part of a password that was not escaped must not be taken for a
 * database, which the server would name in its error.
 */
function isReadable(url: string): boolean {
  try {
    const { username, password, pathname, hash } = new URL(url.replace("@/", "@socket/"));
    decodeURIComponent(username + password);
    const rest = decodeURIComponent(pathname) + hash;
    return !(pathname.includes("@") || hash.includes("@")) && !secret.test(rest);
  } catch {
    return false;
  }
}

/** A secret with its name, as in `password=…`, `sslpassword=…` and `PGPASSWORD=…`. */
const secret = /(pass(?:word|wd|phrase)?|pwd|secret|token)(\s*=\s*)('[^']*'|"[^"]*"|[^\s&;,'"]+)/i;
const secrets = new RegExp(secret, "gi");

/** A URL as it may be shown: without password and without parameters, which can hold one too. */
export function shownUrl(url: string): string {
  const [, scheme = "", rest = ""] = /^([a-z][a-z0-9+.-]*:\/\/)(.*)$/is.exec(url) ?? [];
  const authority = /^[^/?#]*/.exec(rest)![0];
  const after = rest.slice(authority.length);
  // What looks like a host may be the beginning of a password with a "/" or "?" in it.
  if (after.includes("@")) return `${scheme}***`;
  const at = authority.lastIndexOf("@");
  const [user, password] = at < 0 ? [] : authority.slice(0, at).split(":");
  const login = at < 0 ? "" : `${user}${password === undefined ? "" : ":***"}@`;
  return `${scheme}${login}${authority.slice(at + 1)}${/^[^?#]*/.exec(after)![0]}`;
}

/** Where a URL that {@linkcode databaseUrl} took leads. */
export function placeOf(url: string): Place {
  const { hostname, port, pathname, searchParams } = new URL(url.replace("@/", "@socket/"));
  return {
    address: searchParams.get("host") ?? decodeURIComponent(hostname),
    port: Number(searchParams.get("port") ?? port) || 5432,
    database: decodeURIComponent(pathname.slice(1)) || undefined,
  };
}

/** A URL that {@linkcode databaseUrl} took, with another database. */
export function withDatabase(url: string, name: string): string {
  return url.replace(/^(\w+:\/\/[^/?#]*)[^?#]*/, `$1/${name}`);
}

/** A text without the passwords of URLs and of settings in it. */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(
      /\bpostgres(ql)?:\/\/[^\s"'`]*[@?][^\s"'`]*/gi,
      (url) => url.startsWith(sample) ? url : shownUrl(url),
    )
    .replaceAll(secrets, "$1$2***");
}
