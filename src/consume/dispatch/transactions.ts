/**
 * Transactions for handlers, each on a connection of its own.
 *
 * @module
 */

import { connectionsOf } from "../../database/database.ts";
import { lent, type Queryable } from "../../database/queryable.ts";
import type { Session } from "../../database/session.ts";
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
 * The transaction that a handler writes on. After its end it refuses queries, so that none slips
 * into the next transaction.
 */
class Transaction implements Queryable {
  readonly #inner: Queryable;
  readonly [lent] = true;
  over = false;

  constructor(inner: Queryable) {
    this.#inner = inner;
  }

  async query(text: string, values?: unknown[]) {
    if (this.over) {
      throw new HarkError("CONFLICT", "this transaction is over", {
        remedy: "Await every query before the handler returns.",
      });
    }
    return await translated(() => outside(() => this.#inner.query(text, values)));
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

/** Runs handlers in transactions that also store what was handled. */
export class Transactions {
  readonly #db: Queryable;
  readonly #identity: Identity;
  readonly #idle: Session[] = [];
  readonly #open = new Set<Session>();

  constructor(db: Queryable, identity: Identity) {
    this.#db = db;
    this.#identity = identity;
  }

  /**
   * Runs `work` in a transaction. The transaction also stores that the entries returned by `work`
   * are handled.
   *
   * @throws {Unsure} if the connection was lost during the commit. After any other error, nothing
   *   was committed.
   */
  async run(
    held: readonly OwnedPartition[],
    abandon: AbortSignal,
    work: (tx: Queryable) => Promise<readonly Entry[]>,
  ): Promise<void> {
    const connections = connectionsOf(this.#db);
    if (connections === undefined) {
      const db = this.#db as Transacting;
      const { consumer } = this.#identity;
      await outside(() =>
        db.transaction(async (inner) => {
          await this.#begin(inner);
          await this.#work(inner, held, (tx) => inTransactionOf(db, consumer, () => work(tx)));
        })
      );
      return;
    }
    const session = await this.#take(async () => await connections.handlerSession());
    // A handler that was given up may still be using the session.
    const cut = () => void session.close();
    abandon.addEventListener("abort", cut, { once: true });
    let committing = false;
    try {
      await session.query("begin isolation level read committed read write");
      await this.#begin(session);
      await this.#work(session, held, work);
      committing = true;
      await session.query("commit");
      committing = false;
      this.#idle.push(session);
    } catch (error) {
      // If the server has answered, it has refused the commit, for example because of a deferred
      // constraint.
      if (committing && !session.alive) {
        await this.#discard(session);
        throw new Unsure(error);
      }
      if (session.alive) {
        try {
          await session.query("rollback");
          this.#idle.push(session);
        } catch {
          await this.#discard(session); // the server rolls back when the connection ends
        }
      } else await this.#discard(session);
      throw error;
    } finally {
      abandon.removeEventListener("abort", cut);
    }
  }

  async #begin(tx: Queryable): Promise<void> {
    const { owner, lease } = this.#identity;
    await translated(() =>
      tx.query("select hark.begin_handling($1::uuid, $2::integer)", [owner, lease])
    );
  }

  async #work(
    inner: Queryable,
    held: readonly OwnedPartition[],
    work: (tx: Queryable) => Promise<readonly Entry[]>,
  ): Promise<void> {
    const tx = new Transaction(inner);
    let done: readonly Entry[];
    try {
      done = await work(tx);
    } finally {
      tx.over = true;
    }
    const { consumer, owner } = this.#identity;
    await translated(() =>
      inner.query(
        `select hark.finish($1::text, $2::uuid, $3::text::integer[], $4::text::bigint[],
          $5::text::bigint[], $6::text::integer[])`,
        [
          consumer,
          owner,
          numbersText(held.map((h) => h.number)),
          numbersText(held.map((h) => h.epoch)),
          numbersText(done.map((entry) => entry.id)),
          numbersText(done.map((entry) => entry.partition)),
        ],
      )
    );
  }

  async #take(open: () => Promise<Session>): Promise<Session> {
    for (let idle; (idle = this.#idle.pop()) !== undefined;) {
      if (idle.alive) return idle;
      await this.#discard(idle);
    }
    try {
      const session = await open();
      this.#open.add(session);
      return session;
    } catch (error) {
      throw translate(error);
    }
  }

  async #discard(session: Session): Promise<void> {
    this.#open.delete(session);
    await session.close();
  }

  /** Closes the connections. */
  async close(): Promise<void> {
    const open = [...this.#open];
    this.#open.clear();
    this.#idle.length = 0;
    await Promise.all(open.map((session) => session.close()));
  }
}
