/**
 * The database that a program connects to.
 *
 * @module
 */

import { bad } from "../check.ts";
import { HarkError } from "../errors.ts";
import { attachPrepared, Preparing } from "./prepared.ts";
import { Connections, type ConnectOptions } from "./connections.ts";
import { lent, type Queryable, type QueryResult } from "./queryable.ts";
import { translate, translated } from "./translate.ts";
import { databaseUrl, shownUrl, withoutSecrets } from "./url.ts";

// A registered symbol instead of instanceof: a module of consumers may have imported another copy
// of this package than the program that runs it.
const connectionsKey = Symbol.for("@hark/postgres:connections:1");

/**
 * A database, connected by {@linkcode connect}. It is a {@linkcode Queryable}. Consumers open
 * connections of their own from it, and share one LISTEN connection.
 */
export class Database implements Queryable, AsyncDisposable {
  readonly #connections: Connections;
  readonly #preparing = new Preparing();

  /** Use {@linkcode connect}, which also checks that the server answers. */
  constructor(url: string, options: ConnectOptions = {}) {
    this.#connections = new Connections(databaseUrl(url), options);
    Object.defineProperty(this, connectionsKey, { value: this.#connections });
  }

  /** Runs one statement on a connection of the pool. @throws {HarkError} */
  async query(text: string, values: unknown[] = []): Promise<QueryResult> {
    return await translated(
      () => this.#connections.query((on) => on.query(text, values)),
      () => this.#connections.pool.role,
    );
  }

  static {
    attachPrepared<Database>(this.prototype.query, async function (text, values) {
      return await translated(
        () => this.#connections.query((on) => this.#preparing.query(on, text, values)),
        () => this.#connections.pool.role,
      );
    });
  }

  /**
   * Runs `work` in a transaction. It commits when `work` returns, and rolls back when `work`
   * throws. The isolation level is the default of the role or the database.
   *
   * @example
   * ```ts
   * import { connect, notify } from "@hark/postgres";
   *
   * await using db = await connect(Deno.env.get("DATABASE_URL"));
   * await db.transaction(async (tx) => {
   *   await tx.query("update orders set paid = true where id = $1", [42]);
   *   await notify(tx, "orders", { id: 42, paid: true });
   * });
   * ```
   */
  async transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    if (typeof work !== "function") {
      bad("work", work, "Give a function that is called with the transaction.");
    }
    return await this.#connections.working(() => this.#transaction(work));
  }

  async #transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T> {
    const client = await translated(() => this.#connections.pool.connect());
    let broken: Error | undefined;
    try {
      await translated(() => client.query(this.#connections.pool.begin));
      const tx: Queryable & { readonly [lent]: true } = {
        query: (text, values = []) => translated(() => client.query(text, values)),
        [lent]: true,
      };
      const result = await work(tx);
      await translated(() => client.query("commit"));
      return result;
    } catch (error) {
      await client.query("rollback").catch((failed: Error) => broken = failed);
      throw error;
    } finally {
      client.release(broken);
    }
  }

  /**
   * Stops everything that runs on this database, such as consumers. Waits up to 5 s for statements
   * and transactions that are not awaited. Then closes every connection.
   */
  close(): Promise<void> {
    return this.#connections.close();
  }

  /**
   * Closes the database. For `await using`. Logs a warning if a consumer still runs, which
   * {@linkcode Database.close} does not.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#connections.warnOfRunning();
    await this.close();
  }
}

/**
 * The connections behind a {@linkcode Database}; undefined for any other driver. For Hark's own
 * readers.
 */
export function connectionsOf(db: Queryable): Connections | undefined {
  return (db as { [connectionsKey]?: Connections })[connectionsKey];
}

/**
 * Connects to a database and checks that it answers.
 *
 * Its connections have the settings that Hark needs, whatever is the default of the role or the
 * database: READ COMMITTED, transactions that may write, no `lock_timeout`, and a
 * `statement_timeout` of the query's timeout and 1 s.
 *
 * @param url `postgres://user:password@host:port/database`. If it is undefined or empty, PGHOST,
 * PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the database, as for `psql`. One of PGHOST and
 * PGDATABASE must be set, and the process must have the right to read them.
 * @throws {HarkError} `UNREACHABLE` or `TIMEOUT` if the first query fails; `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * ```
 */
export async function connect(
  url: string | undefined,
  options: ConnectOptions = {},
): Promise<Database> {
  const place = databaseUrl(url);
  const database = new Database(place, options);
  try {
    await database.query("select 1");
    return database;
  } catch (error) {
    await database.close();
    const reason = translate(error);
    const { code, remedy } = reason;
    const what = remedy === undefined ? reason.message : reason.message.replace(`. ${remedy}`, "");
    throw new HarkError(code, `${shownUrl(place)}: ${withoutSecrets(what)}`, {
      cause: error,
      ...(remedy === undefined ? {} : { remedy }),
    });
  }
}
