/**
 * The schema as one SQL statement that installs it, upgrades it, or finds that it is up to date.
 *
 * The SQL is loaded only when {@linkcode loadSchema} is called: programs that publish or consume do
 * not need it.
 *
 * @module
 */

import { compareVersions, schemaVersion } from "./version.ts";

/** The result of {@linkcode loadSchema}. */
export interface SchemaScript {
  /** The SQL statement. */
  readonly sql: string;
  /** A digest of all SQL in the statement: it changes whenever a function does. */
  readonly digest: string;
}

let loaded: Promise<SchemaScript> | undefined;

/** Loads the SQL files and builds the statement. */
export function loadSchema(): Promise<SchemaScript> {
  return loaded ??= (async () => {
    const { default: files } = await import("./sql.json", { with: { type: "json" } });
    const digest = await digestOf(files);
    return { sql: script(files, digest), digest };
  })();
}

async function digestOf(files: Readonly<Record<string, string>>): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(Object.entries(files)));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Builds the statement from SQL files, given by their paths below `sql/`. Exported for tests of
 * upgrades.
 */
export function script(
  files: Readonly<Record<string, string>>,
  digest: string,
  version: string = schemaVersion,
): string {
  const execute = (path: string) => {
    const tag = `$${path.replaceAll(/\W/g, "_")}$`;
    const text = files[path]!;
    for (const quote of [tag, "$hark_schema$"]) {
      if (text.includes(quote)) throw new Error(`sql/${path} holds ${quote}`);
    }
    return `execute ${tag}\n${text}${tag};`;
  };
  const upgrades = Object.keys(files)
    .flatMap((path) => /^upgrades\/(.+)\.sql$/.exec(path)?.[1] ?? [])
    .sort(compareVersions)
    .map((to) =>
      `if installed < ${versionArray(to)} then\n${execute(`upgrades/${to}.sql`)}\nend if;`
    );
  const functions = Object.keys(files)
    .filter((path) => /^(?:read|publish|deliver|operate|watch)\//.test(path))
    .concat("rights.sql");
  return `-- Hark ${version}: installs the schema "hark", upgrades it, or finds that it is up to date. One statement, so that any
-- driver and any migration tool can run it, in a transaction of its own or in the caller's.
do $hark_schema$
declare
  installed integer[];
  installed_functions text;
  -- What this statement needs, whatever is the default here. It gives the caller's settings back at its end.
  names constant text[] := array[${settings.map(([name]) => `'${name}'`).join(", ")}];
  wanted constant text[] := array[${settings.map(([, value]) => `'${value}'`).join(", ")}];
  before text[];
  patience constant interval := pg_catalog.current_setting('statement_timeout')::pg_catalog.interval;
  timeout constant pg_catalog.timestamptz := pg_catalog.statement_timestamp() operator(pg_catalog.+) patience;
begin
  if pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'on' and not pg_catalog.pg_is_in_recovery() then
    -- Nothing has been done yet. Inside the caller's own read-only transaction this is refused.
    commit;
    set transaction isolation level read committed read write;
  end if;
  for attempt in 1 .. 2 loop
    installed := null;
    before := array(
      select pg_catalog.current_setting(n.name, true)
      from pg_catalog.unnest(names) with ordinality n (name, place) order by n.place
    );
    begin
      for place in 1 .. pg_catalog.cardinality(names) loop
        if before[place] is not null then
          perform pg_catalog.set_config(names[place], wanted[place], true);
        end if;
      end loop;
      -- Not to_regclass: it may answer from this session's cache, filled before it waited for a lock. A scan
      -- locks the catalog, and so sees what other sessions have changed.
      if exists (
        select from pg_catalog.pg_class c join pg_catalog.pg_namespace n
          on n.oid operator(pg_catalog.=) c.relnamespace
        where n.nspname operator(pg_catalog.=) 'hark' and c.relname operator(pg_catalog.=) 'schema_version'
      ) then
        -- One upgrade at a time. Not an advisory lock, which any role can take.
        execute 'lock table hark.schema_version in share update exclusive mode';
        execute 'select pg_catalog.string_to_array(v.version, ''.'')::pg_catalog.int4[], v.functions from hark.schema_version v'
        into installed, installed_functions;
      end if;
      if installed is null or installed operator(pg_catalog.<) ${versionArray(version)}
        or installed operator(pg_catalog.=) ${versionArray(version)}
          and installed_functions operator(pg_catalog.<>) '${digest}'
      then
${execute("begin.sql")}
if installed is null then
${execute("tables.sql")}
end if;
${upgrades.join("\n")}
${functions.map(execute).join("\n")}
${execute("end.sql")}
insert into hark.schema_version as v (version, functions) values ('${version}', '${digest}')
on conflict (singleton) do update
set version = excluded.version, functions = excluded.functions, changed_at = clock_timestamp();
      end if;
      for place in 1 .. pg_catalog.cardinality(names) loop
        if before[place] is not null then
          perform pg_catalog.set_config(names[place], before[place], true);
        end if;
      end loop;
      -- A timeout that came after this block would undo everything. One that is near is waited for here.
      if pg_catalog.clock_timestamp() operator(pg_catalog.<) timeout
        and timeout operator(pg_catalog.<) (pg_catalog.clock_timestamp() operator(pg_catalog.+) interval '0.5 s')
      then
        begin
          perform pg_catalog.pg_sleep(0.6);
        exception when query_canceled then
          if pg_catalog.clock_timestamp() operator(pg_catalog.<) timeout then
            raise;
          end if;
        end;
      end if;
      exit;
    exception when duplicate_schema or unique_violation then
      -- Another session has created the schema in this moment. Or it is not Hark's.
      if attempt operator(pg_catalog.>) 1 then
        raise;
      end if;
    when query_canceled then
      -- A statement cannot lengthen its own timeout, which runs from its beginning. But it ends only once, so
      -- the second attempt has all the time it needs.
      if attempt operator(pg_catalog.>) 1 or patience operator(pg_catalog.=) interval '0'
        or pg_catalog.clock_timestamp() operator(pg_catalog.<) timeout
      then
        raise;
      end if;
    end;
  end loop;
end
$hark_schema$;
`;
}

/** The settings that the statement runs with, with their values. */
const settings = [
  ["search_path", "pg_catalog, pg_temp"],
  // Functions call each other in circles, so in any order some bodies could not be checked. A test
  // checks them all.
  ["check_function_bodies", "off"],
  ["lock_timeout", "0"],
  ["transaction_timeout", "0"],
  ["standard_conforming_strings", "on"],
  ["quote_all_identifiers", "off"],
  ["array_nulls", "on"],
  ["row_security", "on"],
  // PostgreSQL refuses a partitioned table in the database's own tablespace if that is named.
  ["default_tablespace", ""],
  ["jit", "off"],
] as const;

function versionArray(version: string): string {
  return `'{${version.split(".").join(",")}}'::pg_catalog.int4[]`;
}
