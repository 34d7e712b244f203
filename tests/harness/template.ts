/**
 * The databases of a test run: one template with Hark installed, one copy of it a test.
 *
 * @module
 */

import { migrate } from "../../src/schema/migrate.ts";
import { connect, disconnect, once, withDatabaseName } from "./connect.ts";
import { until } from "./until.ts";

/** Databases of a run that was killed are removed after so many seconds. */
const ABANDONED = 3_600;

/** The server that tests use. */
export function serverUrl(): string {
  const url = Deno.env.get("DATABASE_URL");
  if (url) return url;
  throw new Error("DATABASE_URL is not set. Run `deno task test`, which starts a server itself.");
}

/** The start of the names of this run's databases: `hark_test_<second it began>_<run>`. */
export function runPrefix(): string {
  return Deno.env.get("HARK_TEST_RUN") ?? newRunPrefix(processStart);
}

/** Names a run. */
export function newRunPrefix(ms: number = Date.now()): string {
  return `hark_test_${Math.floor(ms / 1000)}_${Deno.pid}`;
}

const processStart = Math.floor(performance.timeOrigin);

/** Makes a database for one test and gives its name. */
export async function createDatabase(schema: boolean): Promise<string> {
  const url = serverUrl();
  const name = `${runPrefix()}_${crypto.randomUUID().slice(0, 8)}`;
  const template = schema ? await templateDatabase(url) : "template0";
  await once(url, `create database ${name} template ${template}`);
  return name;
}

/** Removes a database, whoever is still in it. */
export async function dropDatabase(name: string): Promise<void> {
  await once(serverUrl(), `drop database if exists ${name} with (force)`);
}

/** Removes all databases of a run. */
export async function dropRun(url: string, prefix: string): Promise<void> {
  const rows = await once(
    url,
    "select datname from pg_database where starts_with(datname, $1)",
    [`${prefix}_`],
  );
  for (const { datname } of rows) {
    await once(url, `drop database if exists ${datname} with (force)`);
  }
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
