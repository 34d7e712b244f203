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
  /** The transaction, and the number of its session on the server. */
  readonly tx: Queryable;
  readonly pid: number;
  open: boolean;
  /** How many calls of the database it waits for. */
  waits: number;
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

/** The handlers whose transactions are open on each database. */
const openOn = new WeakMap<Queryable, Set<Handling>>();

/**
 * Runs a handler within a transaction of a database. A call of the database itself fails if it would
 * wait for that transaction. `pid` is the number of the transaction's session on the server.
 */
export async function inTransactionOf<T>(
  db: Queryable,
  consumer: string,
  { tx, pid }: Pick<Handling, "tx" | "pid">,
  work: () => Promise<T>,
): Promise<T> {
  watch(db);
  const handling: Handling = { db, tx, pid, open: true, waits: 0 };
  const beside = openOn.get(db) ?? new Set();
  openOn.set(db, beside.add(handling));
  const over = new AbortController();
  void outside(() => warnLater(db, consumer, over.signal));
  try {
    return await handlings.run(handling, work);
  } finally {
    handling.open = false;
    beside.delete(handling);
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
      return result instanceof Promise ? answered(handling, name, result) : result;
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
 * Waits for a call. Fails if it waits for the handler's own transaction: the database answers no
 * other call either, all handlers of the database wait for one, and no session of this program does
 * anything. If one does, the database's pool may only be busy.
 */
async function answered<T>(handling: Handling, method: string, call: Promise<T>): Promise<T> {
  const { db } = handling;
  if (await isAnswered(call)) return await call;
  handling.waits++;
  try {
    const other = outside(() => db.query("select 1"));
    const late = (error: unknown) => logger.debug("A call was not waited for: {error}", { error });
    other.catch(late);
    let before: string | undefined;
    for (let seconds = 1;; seconds++) {
      const idle = await idleSessions(handling);
      if (await isAnswered(Promise.race([call, other]))) return await call;
      if (idle === undefined || idle !== before) {
        before = idle;
        continue;
      }
      // It still runs once the transaction is over. Its result no longer counts.
      call.catch(late);
      throw new HarkError(
        "CONFLICT",
        `a transactional handler called ${method}() of its database, no connection was free within ` +
          `${(seconds + 1) * patience} ms, and no session of this program did anything: the call ` +
          "waits for the handler's transaction, and the transaction for the handler",
        {
          remedy: "Use context.tx in the handler, or give the database's pool more connections.",
        },
      );
    }
  } finally {
    handling.waits--;
  }
}

/**
 * The sessions that may be of this program's pool, and since when they have been idle. Undefined if
 * one of them works, if a handler does not wait, or if that cannot be told.
 */
async function idleSessions({ db, tx }: Handling): Promise<string | undefined> {
  const beside = [...openOn.get(db) ?? []];
  const areStuck = () => beside.every(({ open, waits }) => open && waits > 0);
  if (!areStuck()) return undefined;
  const ask = async (text: string, values: unknown[] = []) =>
    (await outside(() => tx.query(text, values))).rows[0];
  const look = async () => {
    // An error would end the handler's transaction. And what it has seen before is kept for it.
    const { may } = await ask(
      `select pg_catalog.has_table_privilege('pg_catalog.pg_stat_activity', 'select')
        and pg_catalog.has_function_privilege('pg_catalog.pg_stat_get_activity(integer)', 'execute') as may,
        pg_catalog.pg_stat_clear_snapshot()`,
    );
    if (may !== true) return undefined;
    const { works, sessions } = await ask(
      `select coalesce(pg_catalog.bool_or(a.state is distinct from 'idle'), false) as works,
        coalesce(pg_catalog.string_agg(pg_catalog.concat(a.pid, ' ', a.state_change), ',' order by a.pid), '') as sessions
      from pg_catalog.pg_stat_activity me
      join pg_catalog.pg_stat_activity a on a.datid = me.datid and a.usesysid = me.usesysid
        and a.application_name = me.application_name and a.client_addr is not distinct from me.client_addr
      where me.pid = pg_catalog.pg_backend_pid() and a.pid <> all ($1::text::pg_catalog.int4[])`,
      [`{${beside.map(({ pid }) => pid).join(",")}}`],
    );
    return works === true ? undefined : String(sessions);
  };
  const looked = look();
  if (!await isAnswered(looked)) {
    looked.catch((error) => logger.debug("The sessions cannot be seen: {error}", { error }));
    return undefined;
  }
  const sessions = await looked.catch(() => undefined);
  return areStuck() ? sessions : undefined;
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
