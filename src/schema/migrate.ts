/**
 * Installs, upgrades and checks the schema `hark`.
 *
 * @module
 */

import { firstQuery, type Queryable } from "../database/queryable.ts";
import { type ServerError, serverError } from "../database/driver_error.ts";
import { translate, translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { observed } from "../observe/seam.ts";
import { mayNotInstall } from "./may_not_install.ts";
import { loadSchema } from "./script.ts";
import { compareVersions, isVersion, schemaVersion } from "./version.ts";

/** The result of {@linkcode migrate}. */
export interface MigrateResult {
  /** The version found; undefined if the schema was not installed. */
  readonly from: string | undefined;
  /** The version now installed. */
  readonly to: string;
  /** Whether anything was changed: tables, or functions of the same version. */
  readonly changed: boolean;
}

/**
 * Returns the schema as SQL text, one statement. Run by psql or by another migration tool, it
 * installs the schema, upgrades an earlier version, or does nothing if the schema is up to date.
 *
 * @example
 * ```ts
 * import { schemaSql } from "@hark/postgres";
 *
 * console.log(await schemaSql());
 * ```
 */
export async function schemaSql(): Promise<string> {
  return (await loadSchema()).sql;
}

/**
 * Returns the version of the schema in this database, or undefined if it is not installed.
 *
 * @throws {HarkError} `NO_PERMISSION` if the role may not use the schema; `CONFLICT` if a schema
 * `hark` exists that Hark did not create.
 */
export async function installedVersion(db: Queryable): Promise<string | undefined> {
  try {
    const { rows: [row] } = await firstQuery(db, "select hark.version() as hark_version");
    if (row.hark_version === undefined) throw renamed(row);
    const version = String(row.hark_version);
    if (!isVersion(version)) throw notOurs();
    return version;
  } catch (error) {
    const translated = translate(error);
    if (translated.code === "NO_SCHEMA") {
      if (await isTaken(db)) throw notOurs(error);
      return undefined;
    }
    throw translated;
  }
}

/** Every other statement would find its columns missing, each in another way. */
function renamed(row: object): HarkError {
  return new HarkError(
    "BAD_OPTION",
    `db.query names the column hark_version ${Object.keys(row).join(", ")}`,
    { remedy: "Give a connection that keeps the names of columns: see docs/guide/drivers.md." },
  );
}

/**
 * Whether a schema "hark" exists. False inside a transaction that has failed: it can run no query.
 */
async function isTaken(db: Queryable): Promise<boolean> {
  const sql = "select exists (select from pg_catalog.pg_namespace where nspname = 'hark') as taken";
  return await db.query(sql).then(({ rows }) => rows[0].taken === true, () => false);
}

/**
 * Installs the schema, or upgrades it to this program's version. Does nothing if the schema is up
 * to date. Concurrent calls wait for each other. Needs the right to create a schema in the
 * database. Inside your own transaction, the change becomes part of that transaction.
 *
 * @throws {HarkError} `SCHEMA_NEW` if the schema is newer than this program; `NO_PERMISSION`;
 * `CONFLICT` if a schema `hark` exists that Hark did not create.
 * @example
 * ```ts
 * import { connect, migrate } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { from, to, changed } = await migrate(db);
 * if (changed) console.log(`schema ${from ?? "not installed"} -> ${to}`);
 * ```
 */
export async function migrate(db: Queryable): Promise<MigrateResult> {
  const { sql, digest } = await loadSchema();
  const [found, functions] = await installed(db);
  const changed = found !== schemaVersion || functions !== digest;
  if (changed) {
    try {
      await observed("hark.migrate", db, {}, () => db.query(sql));
    } catch (error) {
      const server = serverError(error);
      if (server?.code === "42501") {
        throw found === undefined && await isTaken(db)
          ? notOurs(error)
          : await mayNotInstall(db, error);
      }
      if (server?.code === "2D000") {
        throw new HarkError(
          "IN_TRANSACTION",
          "the schema cannot be installed in a transaction that is read-only",
          {
            cause: error,
            remedy: "Begin your transaction with READ WRITE, or migrate outside it.",
          },
        );
      }
      if (server?.code === "42P13") throw otherBuild(server, error);
      if (server?.code === "42P06") {
        // In REPEATABLE READ the statement does not see what another call installed while it waited.
        const now = await translated(() => foundVersion(db)).catch(() => undefined);
        if (now === schemaVersion) return { from: found, to: now, changed: false };
        throw notOurs(error);
      }
      throw translate(error);
    }
  }
  return { from: found, to: schemaVersion, changed };
}

/** The version and the digest of the functions, if they are installed. @throws {HarkError} `SCHEMA_NEW`. */
async function installed(db: Queryable): Promise<[found?: string, functions?: unknown]> {
  try {
    const found = await foundVersion(db);
    if (found === undefined) return [];
    if (compareVersions(found, schemaVersion) > 0) throw tooNew(found);
    return [found, found === schemaVersion ? await functionsOf(db) : undefined];
  } catch (error) {
    if (serverError(error)?.code === "42501") throw await mayNotInstall(db, error);
    throw translate(error);
  }
}

async function foundVersion(db: Queryable): Promise<string | undefined> {
  const { rows } = await firstQuery(
    db,
    "select pg_catalog.to_regclass('hark.schema_version') is not null as found",
  );
  if (!rows[0].found) return undefined;
  const version = await installedVersion(db);
  if (version === undefined) throw notOurs();
  return version;
}

/** The digest of the installed functions. */
async function functionsOf(db: Queryable): Promise<unknown> {
  const { rows } = await db.query("select hark.functions_digest() as digest");
  return rows[0].digest;
}

/** A build of the same version whose function gives other columns. PostgreSQL names it in its hint. */
function otherBuild({ message, hint }: ServerError, cause: unknown): HarkError {
  const drop = /DROP FUNCTION \S.*\)/.exec(hint ?? "")?.[0].toLowerCase();
  return new HarkError(
    "CONFLICT",
    `the schema in this database comes from another build of ${schemaVersion}: ${message}`,
    {
      cause,
      remedy: drop === undefined
        ? "Run hark uninstall --yes and hark init: that removes all notifications."
        : `Run: ${drop}; then hark init. It grants the function again to the roles that had it.`,
    },
  );
}

function notOurs(cause?: unknown): HarkError {
  return new HarkError("CONFLICT", 'this database has a schema "hark" that Hark did not create', {
    cause,
    remedy: "Rename or drop it, or use another database.",
  });
}

function tooNew(found: string): HarkError {
  return new HarkError(
    "SCHEMA_NEW",
    `the schema in this database has version ${found}, but this program knows versions up to ${schemaVersion}`,
    { remedy: "Use a newer version of Hark." },
  );
}

/**
 * Throws if this program cannot work with the installed schema.
 *
 * @throws {HarkError} `NO_SCHEMA`, `SCHEMA_OLD` or `SCHEMA_NEW`, each with the remedy.
 */
export async function requireSchema(db: Queryable): Promise<void> {
  const found = await installedVersion(db);
  if (found === undefined) {
    throw new HarkError("NO_SCHEMA", 'the schema "hark" is not installed in this database', {
      remedy: "Run `hark init`, or call migrate(db).",
    });
  }
  if (found === schemaVersion) return;
  if (compareVersions(found, schemaVersion) > 0) throw tooNew(found);
  throw new HarkError(
    "SCHEMA_OLD",
    `the schema in this database has version ${found}, but this program needs ${schemaVersion}`,
    { remedy: "Run `hark init`, or call migrate(db)." },
  );
}

/**
 * Finds the reason for an error of a running program. A call may be missing in the schema, or a column
 * in a function that had to wait for an upgrade. If another version was installed while the program
 * ran, the result is that error.
 */
export async function withSchemaReason(db: Queryable, error: HarkError): Promise<HarkError> {
  if (error.code !== "NO_SCHEMA" && error.code !== "DATABASE") return error;
  try {
    await requireSchema(db);
  } catch (reason) {
    if (reason instanceof HarkError && reason.code.startsWith("SCHEMA_")) {
      // Another failure may have come with the upgrade, or beside it.
      reason.cause = error;
      return reason;
    }
  }
  return error;
}
