/**
 * A database for a test: inside the process, or on a server.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import { connect } from "../database/database.ts";
import { ownVariable } from "../database/environment.ts";
import type { Queryable } from "../database/queryable.ts";
import { urlIn, withDatabase } from "../database/url.ts";
import type { Duration } from "../duration.ts";
import { migrate } from "../schema/migrate.ts";
import { Time } from "./advance.ts";
import { loadPGlite, type PGliteClass, type PGliteDatabase } from "./pglite.ts";
import { startWithSchema } from "./template.ts";

/** Where the database of a test is. */
export interface TestDatabaseOptions {
  /**
   * The server, `postgres://user:password@host:port/database` or another URL of `connect`. The test
   * gets a database of its own there, and the named one is only connected to. False: inside the
   * process, whatever DATABASE_URL says. Without it: DATABASE_URL if that is set and may be read, else
   * inside the process.
   */
  readonly url?: string | false;
  /**
   * The class `PGlite` of `npm:@electric-sql/pglite`. Without it: the one that your `deno.json` or
   * `package.json` names, else the newest of version 0.5.
   */
  readonly PGlite?: PGliteClass;
}

/**
 * A database with Hark's schema, for one test. Dispose of it at the end, as `await using` does. It
 * is a {@linkcode Queryable}. Inside the process it is a PGlite database and has all its methods.
 */
export interface TestDatabase extends Queryable, AsyncDisposable {
  /** The URL of the database; undefined inside the process. */
  readonly url: string | undefined;
  /** Runs `work` in a transaction, which commits when `work` returns, and rolls back if it throws. */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>;
  /** Runs several statements, separated by semicolons: for tables of your own. */
  exec(sql: string): Promise<unknown>;
  /**
   * Lets time pass in the database, as far as Hark waits for it. Delayed notifications and next
   * attempts that would be due within that time are due now. Dedupe keys that would expire have
   * expired. A consumer that runs looks at once; otherwise call `drain()`.
   *
   * Each schedule that is due within that time publishes once, before the call returns. Its
   * `scheduledAt` is the first time that its pattern names. It is next due after the time that has
   * passed in all: another `advance` reaches that.
   *
   * The clocks of the server and of the program stay as they are: `createdAt` and `now()` do not
   * move.
   *
   * @param time How long, 0 ms to 10 years.
   * @throws {HarkError} `BAD_OPTION`; the errors of `notify` for what a schedule publishes.
   */
  advance(time: Duration): Promise<void>;
}

/**
 * Makes a database for a test. Each call gives another one, empty except for Hark's schema.
 *
 * The first call of all takes longest: it creates the
 * empty database of which each is a copy, and has Deno's Cache API keep that for later runs. PGlite
 * has one session: no LISTEN, and no second worker. It needs the right to read its own files.
 *
 * @throws {HarkError} `BAD_OPTION` if PGlite cannot be loaded, or an option is wrong;
 * `UNREACHABLE`; `DATABASE` if the role may not create databases.
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Consumer, notify } from "@hark/postgres";
 * import { testDatabase } from "@hark/postgres/testing";
 *
 * Deno.test("a reminder is sent after an hour", async () => {
 *   await using db = await testDatabase();
 *   const reminders = new Consumer(db, { id: "reminders", channels: "reminders", handle() {} });
 *   await notify(db, "reminders", { order: 42 }, { delay: "1h" });
 *   assert.equal(await reminders.drain(), 0);
 *   await db.advance("1h");
 *   assert.equal(await reminders.drain(), 1);
 * });
 * ```
 */
export async function testDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  knownOptions("testDatabase", options, ["url", "PGlite"]);
  const url = options.url ?? (ownVariable("DATABASE_URL") || false);
  if (url !== false && typeof url !== "string") bad("url", url, "Give a URL, or false.");
  return url === false || url === ""
    ? await inProcess(options.PGlite ?? await loadPGlite())
    : await onServer(url);
}

async function inProcess(PGlite: PGliteClass): Promise<TestDatabase> {
  if (typeof PGlite?.create !== "function") {
    bad("PGlite", PGlite, "Give the class PGlite of npm:@electric-sql/pglite.");
  }
  return extended(await startWithSchema(PGlite));
}

function extended(database: PGliteDatabase): TestDatabase {
  const clock = new Time(database);
  return Object.assign(database, {
    url: undefined,
    advance: (time: Duration) => clock.advance(time),
  });
}

async function onServer(given: string): Promise<TestDatabase> {
  const server = urlIn("url", given);
  const name = `hark_test_${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`;
  const onMain = async (sql: string) => {
    // These wait for the disk, and for each session of the server.
    await using main = await connect(server, { queryTimeout: 120_000 });
    await main.query(sql);
  };
  await onMain(`create database ${name}`);
  const drop = () => onMain(`drop database if exists ${name} with (force)`);
  const url = withDatabase(server, name);
  try {
    const database = await connect(url);
    try {
      await migrate(database);
    } catch (error) {
      await database.close();
      throw error;
    }
    const clock = new Time(database);
    const dispose = database[Symbol.asyncDispose].bind(database);
    return Object.assign(database, {
      url,
      exec: (sql: string) => database.query(sql),
      advance: (time: Duration) => clock.advance(time),
      async [Symbol.asyncDispose]() {
        await dispose();
        await drop();
      },
    });
  } catch (error) {
    await drop();
    throw error;
  }
}
