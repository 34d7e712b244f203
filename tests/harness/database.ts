/**
 * A database for each test, and the proof that the test left nothing connected.
 *
 * @module
 */

import type { Queryable } from "../../src/database/queryable.ts";
import { type Client, connect, disconnect, type Row, withDatabaseName } from "./connect.ts";
import { control, serverUrl } from "./control.ts";
import { ownName } from "./load.ts";
import { abandonDatabase, createDatabase, dropDatabase } from "./template.ts";
import { until, within } from "./until.ts";

/** What a test is given. */
export interface TestContext {
  /** The test's own database. Its sessions are named {@linkcode TestContext.appName}. */
  readonly url: string;
  /** The application_name in {@linkcode TestContext.url}; it says the test's name. */
  readonly appName: string;
  /** The name of the database. */
  readonly database: string;
  /** A connection to it that the proof at the end does not count: for looking on. */
  readonly admin: Queryable;
  /** Runs one statement on {@linkcode TestContext.admin} and gives its rows. */
  sql(text: string, values?: unknown[]): Promise<Row[]>;
  /** Opens a connection of its own, for a transaction; it is closed at the end of the test. */
  client(url?: string): Promise<Client>;
  /** Disposes of something at the end of the test, last first, and gives it back. */
  use<T extends AsyncDisposable | Disposable>(resource: T): T;
  /** Deno's own context, for steps. */
  readonly t: Deno.TestContext;
}

/** How a test differs from the others. */
export interface TestOptions {
  /** Whether Hark is installed in the database. @default {true} */
  readonly schema?: boolean;
  /** The encoding of the database. @default The server's */
  readonly encoding?: string;
  /** Milliseconds after which the test has failed. @default {90_000} */
  readonly timeout?: number;
  /** How long the server may take to notice that its connections are closed, in milliseconds. @default {10_000} */
  readonly closing?: number;
  /** Whether to leave the test out. */
  readonly ignore?: boolean;
  /** Whether to run this one alone; the run then counts as failed. */
  readonly only?: boolean;
}

/** What a test does. */
export type TestBody = (context: TestContext) => Promise<void> | void;

/** Declares a test with a database of its own: `test("name", async ({ url, sql }) => { ... })`. */
export function test(name: string, body: TestBody): void;
/** Declares a test with a database of its own, with options. */
export function test(name: string, options: TestOptions, body: TestBody): void;
export function test(name: string, first: TestOptions | TestBody, second?: TestBody): void {
  const options = typeof first === "function" ? {} : first;
  const body = typeof first === "function" ? first : second!;
  Deno.test({
    name,
    ignore: options.ignore ?? false,
    only: options.only ?? false,
    fn: withDatabase(body, options),
  });
}

/** The function of a `Deno.test` that runs `body` with a database of its own. */
export function withDatabase(
  body: TestBody,
  { schema = true, encoding, timeout = 90_000, closing = 10_000 }: TestOptions = {},
): (t: Deno.TestContext) => Promise<void> {
  return async (t) => {
    const database = await createDatabase(schema, encoding);
    const plain = withDatabaseName(serverUrl(), database);
    const appName = ownName(t.name).replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 60);
    const url = new URL(plain);
    url.searchParams.set("application_name", appName);
    const admin = new Admin(plain);
    const clients: Client[] = [];
    const resources = new AsyncDisposableStack();
    const context: TestContext = {
      url: url.href,
      appName,
      database,
      admin,
      sql: async (text, values) => (await admin.query(text, values)).rows,
      client: async (to = url.href) => {
        const client = await connect(to);
        clients.push(client);
        return client;
      },
      use: (resource) => resources.use(resource),
      t,
    };
    let running: Promise<void> | undefined;
    try {
      running = Promise.resolve(body(context));
      await within(running, {
        deadline: timeout,
        what: `the test "${t.name}" to end`,
      });
      await resources.disposeAsync();
      await closeAll(clients, database);
      await noSessionsLeft(database, closing);
      await admin.close();
    } catch (error) {
      using _ = reportLeftRejections();
      await resources.disposeAsync().catch(() => {});
      await closeAll(clients, database).catch(() => {});
      await admin.close();
      // And ends the sessions that the failed test has left in it. One that is busy may outlive that.
      await dropDatabase(database).catch((late) => console.error(String(late)));
      // One that is late fails now, as its sessions have ended: the next test should not meet it.
      await within(running ?? Promise.resolve(), { deadline: 5_000 }).catch(() => {});
      throw error;
    }
    abandonDatabase(database);
  };
}

/**
 * Prints promises that a failed test has left and that are rejected as its connections close. Otherwise Deno would
 * cancel all tests of the program.
 */
function reportLeftRejections(): Disposable {
  const report = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    console.error("A failed test has left a promise that was rejected:", event.reason);
  };
  globalThis.addEventListener("unhandledrejection", report);
  return {
    [Symbol.dispose]: () => globalThis.removeEventListener("unhandledrejection", report),
  };
}

/** A connection that is opened when it is first used: many tests never do. */
class Admin implements Queryable {
  readonly #url: string;
  #client: Promise<Client> | undefined;

  constructor(url: string) {
    this.#url = url;
  }

  async query(text: string, values?: unknown[]): Promise<{ rows: Row[] }> {
    this.#client ??= connect(this.#url, { application_name: "hark harness" });
    return await (await this.#client).query(text, values);
  }

  async close(): Promise<void> {
    const client = await this.#client?.catch(() => undefined);
    if (client !== undefined) await disconnect(client);
  }
}

/** Closes a test's own connections and ends what still runs on them. */
async function closeAll(clients: Client[], database: string): Promise<void> {
  const closed = clients.splice(0);
  if (closed.length === 0) return;
  const pids = closed.map((client) => (client as unknown as { processID: number }).processID);
  await Promise.all([
    ...closed.map(disconnect),
    // By number and database: the number may be another's by now.
    control.sql(
      `select pg_terminate_backend(pid) from pg_stat_activity
        where pid = any($1::int[]) and datname = $2`,
      [pids, database],
    ),
  ]);
}

/** Fails when the test's code has left a session in its database: a connection that is not closed. */
async function noSessionsLeft(database: string, deadline: number): Promise<void> {
  const sessions = () =>
    control.sql(
      `select pid, application_name, state, left(query, 300) as query
         from pg_stat_activity
        where datname = $1 and backend_type = 'client backend'
          and application_name <> 'hark harness'`,
      [database],
    );
  let left: Row[] = [];
  // A closed connection takes the server a moment to notice. On a busy machine that is seconds.
  const none = await until(async () => (left = await sessions()).length === 0, {
    deadline,
  }).catch((error) => {
    if (left.length === 0) throw error;
    return false;
  });
  if (none) return;
  const list = left.map((row) =>
    `  ${row.pid} "${row.application_name}" ${row.state}: ${row.query}`
  );
  throw new Error(`the test left ${left.length} sessions open:\n${list.join("\n")}`);
}
