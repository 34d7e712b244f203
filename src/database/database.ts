/**
 * The database that a program connects to.
 *
 * @module
 */

import { bad } from "../check.ts";
import { attachPrepared } from "./prepared.ts";
import { Preparing } from "./preparing.ts";
import type { ConnectOptions } from "./connect_options.ts";
import { Connections } from "./connections.ts";
import { OpenTransaction } from "./open_transaction.ts";
import {
  connectionsKey,
  type Place,
  placed,
  type Queryable,
  type QueryResult,
  replicaKey,
} from "./queryable.ts";
import { refusedBy } from "./refused.ts";
import { openReplica, type ReplicaConnections, requireReplica } from "./replica.ts";
import { translated } from "./translate.ts";
import { databaseUrl, placeOf, shownUrl } from "./url.ts";

/**
 * A database, connected by {@linkcode connect}. It is a {@linkcode Queryable}. Consumers open
 * connections of their own from it, and share one LISTEN connection.
 */
export class Database implements Queryable, AsyncDisposable {
  readonly #connections: Connections;
  readonly #replica: ReplicaConnections | undefined;
  readonly #preparing = new Preparing();

  /** Use {@linkcode connect}, which also checks that the server answers. */
  constructor(url: string, options: ConnectOptions = {}) {
    const place = databaseUrl(url);
    this.#connections = new Connections(place, options);
    this.#replica = openReplica(options);
    Object.defineProperty(this, connectionsKey, { value: this.#connections });
    Object.defineProperty(this, replicaKey, { value: this.#replica });
    Object.defineProperty(this, placed, { value: placeOf(place) });
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
   * PostgreSQL rolls back a transaction in which a statement failed. So if `work` catches that error and
   * goes on, this throws. Run a statement that may fail behind a savepoint.
   * Await every query: after its end, `tx` refuses what is left with `CONFLICT`.
   *
   * @throws {HarkError} `DATABASE` if the server rolled back instead of committing; `cause` is the error of
   *   the statement that failed.
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
    const tx = new OpenTransaction(
      (text, values) => client.query(text, values),
      (this as { [placed]?: Place })[placed],
    );
    try {
      await translated(() => client.query(this.#connections.pool.begin));
      const result = await work(tx);
      tx.end();
      const { command } = await translated(() => client.query("commit"));
      if (command === "ROLLBACK") throw tx.rolledBack();
      return result;
    } catch (error) {
      tx.end();
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
  async close(): Promise<void> {
    await this.#connections.close();
    await this.#replica?.connections.close();
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

/** The connections of a {@linkcode Database} to its replica; undefined if it has none. */
export function replicaConnectionsOf(db: Queryable): ReplicaConnections | undefined {
  return (db as { [replicaKey]?: ReplicaConnections })[replicaKey];
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
 * With `replica`, that server must answer too, and must be a standby of this one.
 *
 * @throws {HarkError} `UNREACHABLE` or `TIMEOUT` if the first query fails; `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * ```
 * @example Reading from a standby
 * ```ts
 * import { connect, subscribe } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"), {
 *   replica: Deno.env.get("HARK_REPLICA_URL"),
 * });
 * for await (const { payload } of subscribe(db, "orders")) console.log(payload);
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
  } catch (error) {
    await database.close();
    throw refusedBy(shownUrl(place), error);
  }
  try {
    const replica = replicaConnectionsOf(database);
    if (replica !== undefined) await requireReplica(database, replica);
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}
