/**
 * Transactions for handlers, each on a connection of its own.
 *
 * @module
 */

import { connectionsOf } from "../../database/database.ts";
import { OpenTransaction } from "../../database/open_transaction.ts";
import type { Queryable } from "../../database/queryable.ts";
import type { Session } from "../../database/session.ts";
import { reset } from "../../database/settings.ts";
import { sqlState } from "../../database/driver_error.ts";
import { translate, translated } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import type { OwnedPartition } from "../state/partition.ts";
import type { Entry } from "../state/entry.ts";
import { type Identity, numbersText } from "../state/identity.ts";
import { Unsure } from "../state/work.ts";
import { inTransactionOf, outside } from "./one_session.ts";

/** A database whose driver runs transactions itself, such as PGlite. */
interface Transacting extends Queryable {
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>;
}

/**
 * Runs deferred triggers as the role that the handler has set. Up to PostgreSQL 17 the commit would
 * run them as the worker's role, and they may belong to others.
 */
const deferred = "set constraints all immediate";

/** The transaction that a handler writes on. */
class Transaction extends OpenTransaction {
  readonly #inner: Queryable;
  /** How many queries of the handler run. */
  #running = 0;
  #touching: Promise<unknown> | undefined;

  constructor(inner: Queryable) {
    super(async (text, values) => {
      await this.#touching;
      this.#running++;
      try {
        return await outside(() => inner.query(text, values));
      } finally {
        this.#running--;
      }
    });
    this.#inner = inner;
  }

  /** Keeps the server from ending the transaction because it is idle. */
  touch(): void {
    if (this.over || this.#running > 0 || this.#touching !== undefined) return;
    // If it fails, so does the next query, or the commit. In a failed transaction it fails as well.
    this.#touching = outside(() => this.#inner.query("select")).catch(() => {}).finally(() => {
      this.#touching = undefined;
    });
  }

  /** Resolves when nothing of Hark's own runs in it. */
  async quiet(): Promise<void> {
    await this.#touching;
  }
}

/**
 * Checks that a database can run transactions.
 *
 * @throws {HarkError} `BAD_OPTION`
 */
export function requireTransactions(db: Queryable): void {
  if (connectionsOf(db) !== undefined) return;
  if (typeof (db as Partial<Transacting>).transaction === "function") return;
  throw new HarkError(
    "BAD_OPTION",
    "a transactional consumer needs a database that can open transactions",
    {
      remedy: "Give a Database of connect(), or a driver with transaction(), such as PGlite.",
    },
  );
}

/**
 * Runs the handler's part of a transaction, and then what ends it with the entries that are handled.
 *
 * The server ends a transaction that is idle for as long as a lease, so that no frozen worker holds up its
 * successor. So it is touched while the handler does something else and the worker owns the partitions.
 */
async function handle(
  inner: Queryable,
  held: readonly OwnedPartition[],
  lease: number,
  work: (tx: Queryable) => Promise<readonly Entry[]>,
  finish: (done: readonly Entry[]) => Promise<void>,
): Promise<void> {
  const tx = new Transaction(inner);
  const timer = setInterval(() => {
    if (!held.some(({ signal }) => signal.aborted)) tx.touch();
  }, lease / 4);
  let done: readonly Entry[];
  try {
    done = await work(tx);
  } finally {
    clearInterval(timer);
    tx.end();
    await tx.quiet();
  }
  await finish(done).catch((error) => {
    throw tx.reasonFor(error);
  });
}

/** Runs handlers in transactions that also store what was handled. */
export class Transactions {
  readonly #db: Queryable;
  readonly #identity: Identity;
  /** The connections on which a handler of this consumer runs. */
  readonly #busy = new Set<Session>();
  /** The connections that handlers wait for. */
  readonly #taking = new Set<Promise<Session>>();
  readonly #over = new AbortController();
  readonly #leave: (() => Promise<void>) | undefined;

  constructor(db: Queryable, identity: Identity) {
    this.#db = db;
    this.#identity = identity;
    this.#leave = connectionsOf(db)?.handlerSessions.join();
  }

  /** Aborts when the run is over. No handler begins then. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /**
   * Runs `work` in a transaction. The transaction also stores that the entries returned by `work`
   * are handled.
   *
   * @param abandon Aborts when the result no longer counts, and with {@linkcode Transactions.over}.
   *   `work` looks at it too, as a driver may call it late.
   * @throws {Unsure} if the connection was lost during the commit. After any other error, nothing
   *   was committed.
   */
  async run(
    held: readonly OwnedPartition[],
    abandon: AbortSignal,
    work: (tx: Queryable) => Promise<readonly Entry[]>,
  ): Promise<void> {
    const connections = connectionsOf(this.#db);
    const { consumer, owner, lease } = this.#identity;
    if (connections === undefined) {
      const db = this.#db as Transacting;
      let isFinished = false;
      await outside(() =>
        db.transaction(async (inner) => {
          const { rows: [before] } = await translated(() =>
            inner.query(
              "select hark.begin_handling($1::uuid, $2::integer), current_setting('role') as role, " +
                "pg_backend_pid() as pid",
              [owner, lease],
            )
          );
          await handle(
            inner,
            held,
            lease,
            (tx) =>
              inTransactionOf(db, consumer, { tx: inner, pid: Number(before.pid) }, () => work(tx)),
            (done) =>
              translated(async () => {
                // The handler may have set another, which has no rights here, and would keep it.
                await inner.query(deferred);
                await inner.query("select set_config('role', $1::text, false)", [before.role]);
                await inner.query(this.#finish(held, done));
              }),
          );
          isFinished = true;
        })
      ).catch((error) => {
        // The server has not refused the commit: it may have carried it out.
        throw isFinished && sqlState(error) === undefined ? new Unsure(error) : error;
      });
      return;
    }
    const pool = connections.handlerSessions;
    const taking = pool.take(abandon, this.over);
    this.#taking.add(taking);
    const session = await taking.finally(() => this.#taking.delete(taking));
    this.#busy.add(session);
    // A handler that was given up may still be using the session.
    const cut = () => void session.close();
    abandon.addEventListener("abort", cut, { once: true });
    let committing = false;
    try {
      await session.query(this.#begin(session, pool.wasUsed(session)));
      await handle(session, held, lease, work, async (done) => {
        // The commit is not sent, so nothing is committed.
        if (!session.alive) throw translate(await session.ended);
        committing = true;
        await session.query(
          `${deferred}; reset session authorization; reset role${session.setUp.locals}; ${
            this.#finish(held, done)
          }; commit`,
        );
        committing = false;
      });
      pool.give(session);
    } catch (error) {
      // If the server has answered, it has refused the commit, for example because of a deferred
      // constraint.
      if (committing && !session.alive) {
        await pool.discard(session);
        throw new Unsure(error);
      }
      if (session.alive) {
        try {
          await session.query("rollback");
          pool.give(session);
        } catch {
          await pool.discard(session); // the server rolls back when the connection ends
        }
      } else await pool.discard(session);
      throw error;
    } finally {
      this.#busy.delete(session);
      abandon.removeEventListener("abort", cut);
    }
  }

  /**
   * The statements that begin a handler's transaction, sent at once. First they take back what an
   * earlier handler has left in the session.
   */
  #begin(session: Session, used: boolean): string {
    const { owner, lease } = this.#identity;
    const { direct, locals } = session.setUp;
    // Behind a pooler the next transaction may run on another session, shared with other clients.
    const clean = direct && used ? `begin; ${reset}; commit; ` : "";
    return `${clean}begin isolation level read committed read write${locals}; ` +
      `select hark.begin_handling('${owner}', ${lease})`;
  }

  /**
   * The statement that ends a handler's transaction. It has no parameters, so that others can be
   * sent with it. It is ASCII, as the handler may have changed the client's encoding, and names
   * everything in full, as it may have changed the search_path.
   */
  #finish(held: readonly OwnedPartition[], done: readonly Entry[]): string {
    const { consumer, owner } = this.#identity;
    const hex = Array.from(
      new TextEncoder().encode(consumer),
      (byte) => byte.toString(16).padStart(2, "0"),
    ).join("");
    const numbers = (type: string, values: readonly number[]) =>
      `'${numbersText(values)}'::pg_catalog.${type}[]`;
    return `select hark.finish(${
      [
        `pg_catalog.convert_from(pg_catalog.decode('${hex}', 'hex'), 'UTF8')`,
        `'${owner}'::pg_catalog.uuid`,
        numbers("int4", held.map((h) => h.number)),
        numbers("int8", held.map((h) => h.epoch)),
        numbers("int8", done.map((entry) => entry.id)),
        numbers("int4", done.map((entry) => entry.partition)),
      ].join(", ")
    })`;
  }

  /** Closes the connections of handlers that still run. Opens no other one. */
  async close(): Promise<void> {
    this.#over.abort(new Error("the consumer has stopped"));
    await Promise.allSettled(this.#taking);
    await Promise.all([...this.#busy].map((session) => session.close()));
    await this.#leave?.();
  }
}
