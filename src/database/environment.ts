/**
 * The database that the environment names, as `psql` and other programs of libpq read it.
 *
 * @module
 */

import process from "node:process";
import { HarkError } from "../errors.ts";

/** Gives a variable of the environment. */
type Variable = (name: string) => string | undefined;

/**
 * The URL that PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE make. One of PGHOST and PGDATABASE
 * must be set: the others alone name no database. The host is localhost by default, and the
 * database is named like the user. The driver itself reads PGSSLMODE, PGPASSFILE and PGOPTIONS.
 *
 * @returns undefined if no database is named.
 * @throws {HarkError} `BAD_OPTION` if only PGSERVICE is set, which Hark does not read.
 */
export function urlFromVariables(variable: Variable): string | undefined {
  const of = (name: string) => variable(name) || undefined;
  const [host, database] = [of("PGHOST"), of("PGDATABASE")];
  if (host === undefined && database === undefined) {
    if (of("PGSERVICE") === undefined) return undefined;
    throw new HarkError("BAD_OPTION", "PGSERVICE names a service, and Hark reads no service file", {
      remedy: "Set PGHOST and PGDATABASE, or DATABASE_URL.",
    });
  }
  const [user, password, port] = [of("PGUSER"), of("PGPASSWORD"), of("PGPORT")];
  const escaped = encodeURIComponent;
  const login = user === undefined
    ? ""
    : `${escaped(user)}${password === undefined ? "" : `:${escaped(password)}`}@`;
  const path = database === undefined ? "" : escaped(database);
  if (host?.startsWith("/")) { // the folder of a Unix socket
    const to = new URLSearchParams({ host, ...(port === undefined ? {} : { port }) });
    return `postgres://${login}/${path}?${to}`;
  }
  const place = host?.includes(":") ? `[${host}]` : host ?? "localhost";
  return `postgres://${login}${place}${port === undefined ? "" : `:${port}`}/${path}`;
}

/**
 * Gives a variable of this process. One that it may not read counts as not set: a library does not
 * ask for a right that a program may not need.
 */
export function ownVariable(name: string): string | undefined {
  const { Deno: deno } = globalThis as { Deno?: typeof Deno };
  if (deno !== undefined) {
    const { state } = deno.permissions.querySync({ name: "env", variable: name });
    if (state !== "granted") return undefined;
  }
  return process.env[name];
}
