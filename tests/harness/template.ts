/**
 * The databases of a test run: one template with Hark installed, one copy of it a test.
 *
 * @module
 */

import { migrate } from "../../src/schema/migrate.ts";
import { connect, disconnect, once, withDatabaseName } from "./connect.ts";
import { background, control, serverUrl } from "./control.ts";
import { until } from "./until.ts";

/** Databases of a run that was killed are removed after this many seconds. */
const ABANDONED = 3_600;

/** The start of the names of this run's databases: `hark_test_<second it began>_<run>`. */
export function runPrefix(): string {
  return Deno.env.get("HARK_TEST_RUN") ?? newRunPrefix(processStart);
}

/**
 * Whether each database is dropped when its test has ended. In a run with room they stay: to make a file,
 * ext4 looks past all that were removed in the last minutes, which takes ten times as long as the copy itself.
 */
function dropsEach(): boolean {
  return !Deno.env.has("HARK_TEST_RUN") || Deno.env.has("HARK_TEST_DROP");
}

/** Names a run. */
export function newRunPrefix(ms: number = Date.now()): string {
  return `hark_test_${Math.floor(ms / 1000)}_${Deno.pid}`;
}

const processStart = Math.floor(performance.timeOrigin);

/** Makes a database for one test and gives its name. */
export async function createDatabase(schema: boolean, encoding?: string): Promise<string> {
  const name = `${runPrefix()}_${crypto.randomUUID().slice(0, 8)}`;
  if (encoding !== undefined) {
    if (dropsEach()) await background.ready();
    await control.sql(await createEncoded(name, encoding));
    if (schema) await install(withDatabaseName(serverUrl(), name));
    return name;
  }
  const template = schema ? await templateDatabase(serverUrl()) : "template0";
  if (dropsEach()) await background.ready();
  await control.sql(`create database ${name} template ${template} ${await strategy()}`);
  return name;
}

/** The statement that makes a database of an encoding, whatever the locale of the server's own. */
export async function createEncoded(name: string, encoding: string): Promise<string> {
  const [{ version }] = await control.sql(
    "select current_setting('server_version_num')::int as version",
  );
  const provider = version < 150_000 ? "" : "locale_provider libc";
  return `create database ${name} template template0 encoding '${encoding}' locale 'C' ${provider}`;
}

/**
 * Removes a database that is no longer used, and waits for nothing. A run that has room for them leaves them
 * to its end. If the connection for it was lost, so is the database: to open one between two tests starts
 * timers that Deno finds in neither.
 */
export function abandonDatabase(name: string): void {
  if (!dropsEach() || !background.isOpen) return;
  dropDatabase(name).catch(() => {}); // the end of the run drops what is left
}

/** Removes a database, and ends the sessions that are still in it. */
export async function dropDatabase(name: string): Promise<void> {
  await background.sql(`drop database if exists ${name} with (force)`);
}

/** How many databases are dropped at a time. Each waits for the disk more than it works. */
const DROPPERS = 6;

/** Removes all databases of a run. */
export async function dropRun(url: string, prefix: string): Promise<void> {
  const names = (await once(
    url,
    "select datname from pg_database where starts_with(datname, $1)",
    [`${prefix}_`],
  )).map(({ datname }) => datname);
  await Promise.all(Array.from({ length: DROPPERS }, async () => {
    const client = await connect(url, { application_name: "hark harness" });
    try {
      for (let name; (name = names.pop()) !== undefined;) {
        await client.query(`drop database if exists ${name} with (force)`);
      }
    } finally {
      await disconnect(client);
    }
  }));
}

let known: Promise<string> | undefined;

/** How a database is copied: as files where nothing is flushed, which takes a fifth of the time. */
function strategy(): Promise<string> {
  return known ??= (async () => {
    const [row] = await control.sql(
      `select not current_setting('fsync')::boolean
         and current_setting('server_version_num')::int >= 150000 as by_file`,
    );
    return row.by_file ? "strategy file_copy" : "";
  })();
}

let template: Promise<string> | undefined;

/** The name of the template, which is made once a run: a lock keeps test files from racing. */
function templateDatabase(url: string): Promise<string> {
  return template ??= (async () => {
    const name = `${runPrefix()}_template`;
    const client = await connect(url, { application_name: "hark harness" });
    try {
      await client.query("select pg_advisory_lock(hashtext('hark test template'))");
      const found = await client.query("select 1 from pg_database where datname = $1", [name]);
      if (found.rows.length > 0) return name;
      await dropAbandoned(client);
      const unfinished = `${name}_unfinished`;
      await client.query(`drop database if exists ${unfinished} with (force)`);
      await client.query(`create database ${unfinished} template template0`);
      await install(withDatabaseName(url, unfinished));
      await pack(withDatabaseName(url, unfinished));
      await until(async () => {
        await client.query(`alter database ${unfinished} rename to ${name}`);
        return true;
      }, { what: "the template's last session to end" });
      return name;
    } finally {
      await disconnect(client);
    }
  })();
}

/**
 * Makes the catalogs of a template small: each copy then has a tenth less to write, in a seventh fewer files.
 * Tables of Hark stay as they are, as PostgreSQL plans for a table that was never vacuumed in another way.
 */
async function pack(url: string): Promise<void> {
  const [{ catalogs }] = await once(
    url,
    `select string_agg(oid::regclass::text, ', ') as catalogs from pg_class
      where relnamespace = 'pg_catalog'::regnamespace and relkind = 'r' and not relisshared`,
  );
  await once(url, `vacuum (full, freeze) ${catalogs}`);
  // The first session afterwards writes what all sessions begin with into a file, which the copies have too.
  await once(url, "select");
}

/**
 * Drops the schema while it is in use. It locks everything in an order of its own. So PostgreSQL may end it
 * for a deadlock with a worker; then it is tried again, as an operator would.
 */
export async function dropInUse(sql: (text: string) => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await sql("drop schema hark cascade");
      return;
    } catch (error) {
      if ((error as { code?: unknown }).code !== "40P01") throw error;
    }
  }
}

/** Installs Hark's schema. */
export async function install(url: string): Promise<void> {
  const client = await connect(url);
  try {
    await migrate(client);
  } finally {
    await disconnect(client);
  }
}

async function dropAbandoned(client: Awaited<ReturnType<typeof connect>>): Promise<void> {
  const { rows } = await client.query(
    `select datname from pg_database
      where datname ~ '^hark_test_[0-9]+_'
        and split_part(datname, '_', 3)::bigint < extract(epoch from now()) - $1`,
    [ABANDONED],
  );
  for (const { datname } of rows) {
    await client.query(`drop database if exists ${datname} with (force)`);
  }
}
