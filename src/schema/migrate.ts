/**
 * Installs, upgrades, checks and removes the schema `hark`.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { messageOf, translate, translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { migrations } from "./bundle.ts";

/** The schema version this program needs and makes. */
export const schemaVersion: number = migrations.length;

/** What {@linkcode migrate} did. */
export interface MigrateResult {
  /** The version found: 0 where there was no schema. */
  readonly from: number;
  /** The version now installed. */
  readonly to: number;
}

// Any number serves as the lock's key as long as it stays the same: two installs must not collide.
const lockKey = "4750199211";

function dollarQuote(text: string, tag: string): string {
  if (text.includes(`$${tag}$`)) throw new Error(`SQL holds $${tag}$`);
  return `$${tag}$${text}$${tag}$`;
}

/**
 * The whole bundle as SQL text, for psql or for another migration tool; running it against an
 * installed schema fails and changes nothing.
 *
 * @param options `from`: leave out the migrations up to this version (default 0: all)
 * @example
 * ```ts
 * import { bundleSql } from "@hark/postgres";
 *
 * console.log(bundleSql());
 * ```
 */
export function bundleSql(options: { readonly from?: number } = {}): string {
  const from = options.from ?? 0;
  const parts = migrations.filter((m) => m.version > from).map((m) => m.sql.trim());
  return `begin;\n\n${parts.join("\n\n")}\n\ncommit;\n`;
}

// One statement, so that any driver can run it, in one transaction of its own or in the caller's.
function migrateStatement(): string {
  const steps = migrations.map((m) =>
    `  if installed < ${m.version} then execute ${dollarQuote(m.sql, `hark_${m.version}`)}; end if;`
  );
  return dollarQuoteDo(`
declare
  installed integer := 0;
  path text := pg_catalog.current_setting('search_path');
begin
  perform pg_catalog.pg_advisory_xact_lock(${lockKey});
  -- Not to_regclass: it may answer from what this session cached before it waited for the lock. To scan a
  -- catalog is to lock it, which takes in what others have changed.
  if exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n
      on n.oid operator(pg_catalog.=) c.relnamespace
    where n.nspname operator(pg_catalog.=) 'hark' and c.relname operator(pg_catalog.=) 'migrations'
  ) then
    execute 'select pg_catalog.max(version) from hark.migrations' into installed;
  end if;
${steps.join("\n")}
  perform pg_catalog.set_config('search_path', path, true);
end
`);
}

function dollarQuoteDo(body: string): string {
  return `do ${dollarQuote(body, "hark_migrate")}`;
}

/**
 * The version of the schema in this database, or undefined where there is none.
 *
 * @throws {HarkError} `NO_PERMISSION` where the role may not use the schema; `CONFLICT` where there is a
 * schema `hark` that is not Hark's.
 */
export async function installedVersion(db: Queryable): Promise<number | undefined> {
  try {
    const { rows } = await db.query("select hark.version() as version");
    return Number(rows[0].version);
  } catch (error) {
    const translated = translate(error);
    if (translated.code === "NO_SCHEMA") {
      if (await isTaken(db)) throw notOurs(error);
      return undefined;
    }
    throw translated;
  }
}

/** Whether a schema "hark" is there all the same. In a transaction, which has failed, nobody knows. */
async function isTaken(db: Queryable): Promise<boolean> {
  const sql = "select exists (select from pg_catalog.pg_namespace where nspname = 'hark') as taken";
  return await db.query(sql).then(({ rows }) => rows[0].taken === true, () => false);
}

/**
 * Installs the schema, or brings it up to this program's version. Does nothing where it is up to
 * date; several at once wait for each other. Needs the right to create a schema in the database.
 * Inside a transaction of the caller's it joins that.
 *
 * @throws {HarkError} `SCHEMA_NEW` when the schema is newer than this program; `NO_PERMISSION`;
 * `CONFLICT` when a schema `hark` exists that is not Hark's.
 * @example
 * ```ts
 * import { connect, migrate } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { from, to } = await migrate(db);
 * console.log(`schema ${from} -> ${to}`);
 * ```
 */
export async function migrate(db: Queryable): Promise<MigrateResult> {
  const found = await foundVersion(db);
  if (found > schemaVersion) throw tooNew(found);
  if (found < schemaVersion) {
    try {
      await db.query(migrateStatement());
    } catch (error) {
      const code = sqlState(error);
      if (code === "42501") {
        throw new HarkError(
          "NO_PERMISSION",
          `the schema cannot be installed: ${messageOf(rootOf(error))}`,
          {
            cause: error,
            remedy: "Use the database's owner, or: grant create on database … to this role.",
          },
        );
      }
      if (code === "42P06") throw notOurs(error);
      throw translate(error);
    }
  }
  return { from: found, to: schemaVersion };
}

async function foundVersion(db: Queryable): Promise<number> {
  return await translated(async () => {
    const { rows } = await db.query(
      "select pg_catalog.to_regclass('hark.migrations') is not null as found",
    );
    if (!rows[0].found) return 0;
    const version = await installedVersion(db);
    if (version === undefined) throw notOurs();
    return version;
  });
}

/** The driver's error below one that was translated already, as by a `Database`. */
function rootOf(error: unknown): unknown {
  return error instanceof HarkError && error.cause !== undefined ? error.cause : error;
}

function sqlState(error: unknown): unknown {
  return (rootOf(error) as { code?: unknown } | null | undefined)?.code;
}

function notOurs(cause?: unknown): HarkError {
  return new HarkError("CONFLICT", 'there is a schema "hark" that Hark did not make', {
    cause,
    remedy: "Rename or drop it, or use another database.",
  });
}

function tooNew(found: number): HarkError {
  return new HarkError(
    "SCHEMA_NEW",
    `the schema in this database has version ${found}, this program knows versions up to ${schemaVersion}`,
    { remedy: "Use a newer version of Hark." },
  );
}

/**
 * Refuses a schema that this program cannot work with.
 *
 * @throws {HarkError} `NO_SCHEMA`, `SCHEMA_OLD` or `SCHEMA_NEW`, each with the remedy.
 */
export async function requireSchema(db: Queryable): Promise<void> {
  const found = await installedVersion(db);
  if (found === undefined) {
    throw new HarkError("NO_SCHEMA", 'the schema "hark" is not in this database', {
      remedy: "Run `hark init`, or call migrate(db).",
    });
  }
  if (found > schemaVersion) throw tooNew(found);
  if (found < schemaVersion) {
    throw new HarkError(
      "SCHEMA_OLD",
      `the schema in this database has version ${found}, this program needs ${schemaVersion}`,
      { remedy: "Run `hark init`, or call migrate(db)." },
    );
  }
}
