/**
 * Finds handlers that wait for their own transaction: they use the database itself instead of
 * `context.tx`, and the database has no other connection.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { pause } from "../../database/bell.ts";
import type { Queryable } from "../../database/queryable.ts";
import { HarkError } from "../../errors.ts";
import { getLogger } from "../../log/logger.ts";

const logger = getLogger(["hark", "consumer"]);

/** A database that does not answer for this long is asked again, in milliseconds. */
const patience = 1000;
/** After this time a handler is named that may wait for itself, in milliseconds. */
const suspicious = 10_000;

/** A handler whose transaction is open on a database. */
interface Handling {
  readonly db: Queryable;
  open: boolean;
}

// deno-lint-ignore no-explicit-any -- whatever the driver's methods take and return
type Method = (...values: any[]) => any;

/** The handler that the running code was called by, directly or after any await. */
const handlings = new AsyncLocalStorage<Handling | undefined>();

/** The methods of drivers that run SQL. */
const methods = [
  "query",
  "exec",
  "execute",
  "sql",
  "transaction",
  "describeQuery",
  "listen",
] as const;

/**
 * Databases whose methods are watched. The watching methods stay: outside a handler they only pass
 * the call on.
 */
const watched = new WeakSet<Queryable>();

/**
 * Runs a handler within a transaction of a database. A call of the database itself fails if it would
 * wait for that transaction.
 */
export async function inTransactionOf<T>(
  db: Queryable,
  consumer: string,
  work: () => Promise<T>,
): Promise<T> {
  watch(db);
  const handling: Handling = { db, open: true };
  const over = new AbortController();
  void outside(() => warnLater(db, consumer, over.signal));
  try {
    return await handlings.run(handling, work);
  } finally {
    handling.open = false;
    over.abort();
  }
}

/** Runs a call of Hark itself, which is never taken for one of the handler. */
export function outside<T>(run: () => T): T {
  return handlings.run(undefined, run);
}

function watch(db: Queryable): void {
  if (watched.has(db) || !Object.isExtensible(db)) return;
  watched.add(db);
  const object = db as unknown as Record<string, Method | undefined>;
  for (const name of methods) {
    const original = object[name];
    const place = Object.getOwnPropertyDescriptor(db, name);
    if (typeof original !== "function" || place?.configurable === false) continue;
    const watching: Method = function (this: unknown, ...values) {
      const call = () => Reflect.apply(original, this, values);
      const handling = handlings.getStore();
      if (handling?.open !== true || handling.db !== db) return call();
      if (isOneSession(db)) return Promise.reject(oneSession(name));
      const result = call();
      // Awaiting another thenable might run its statement once more.
      return result instanceof Promise ? answered(db, name, result) : result;
    };
    // The prepared variant of a query hangs on the method.
    Object.defineProperties(watching, Object.getOwnPropertyDescriptors(original));
    Object.defineProperty(db, name, { value: watching, configurable: true, writable: true });
  }
}

/** PGlite, also in a worker. It runs one call or one transaction at a time. */
function isOneSession(db: Queryable): boolean {
  return "waitReady" in db && ("execProtocolRaw" in db || "runExclusive" in db);
}

function oneSession(method: string): HarkError {
  return new HarkError(
    "CONFLICT",
    `a transactional handler called ${method}() of its database, which has one session: the call would ` +
      "wait for the handler's transaction, and the transaction for the handler",
    { remedy: "Use context.tx in the handler, also as the first argument of notify and the like." },
  );
}

/**
 * Waits for a call. If the database then answers no other call either, it has no connection left,
 * and the call waits for the handler's own transaction.
 */
async function answered<T>(db: Queryable, method: string, call: Promise<T>): Promise<T> {
  if (await isAnswered(call) || await isAnswered(outside(() => db.query("select 1")))) {
    return await call;
  }
  // It still runs once the transaction is over. Its result no longer counts.
  call.catch((error) => logger.debug("A call that was given up failed: {error}", { error }));
  throw new HarkError(
    "CONFLICT",
    `a transactional handler called ${method}() of its database, and no connection was free within ` +
      `${
        2 * patience
      } ms: the call waits for the handler's transaction, and the transaction for the handler`,
    { remedy: "Use context.tx in the handler, or give the database's pool more connections." },
  );
}

/** Whether a call ends soon, well or not. */
async function isAnswered(call: Promise<unknown>): Promise<boolean> {
  const over = new AbortController();
  const ended = Promise.resolve(call).then(() => true, () => true);
  const late = pause(patience, over.signal).then(() => false);
  try {
    return await Promise.race([ended, late]);
  } finally {
    over.abort();
  }
}

/** A handler may also hold a pool that Hark does not know. Then only its silence tells. */
async function warnLater(db: Queryable, consumer: string, over: AbortSignal): Promise<void> {
  await pause(suspicious, over);
  if (over.aborted || await isAnswered(db.query("select 1")) || over.aborted) return;
  logger.warn(
    "{consumer}: a transactional handler has run for {seconds} s, and its database has no other connection; " +
      "if it waits for that database, use context.tx in it, or set timeout to end it",
    { consumer, seconds: suspicious / 1000 },
  );
}
