/**
 * The driver interface: what Hark needs from any PostgreSQL driver.
 *
 * @module
 */

import { show } from "../check.ts";
import { HarkError } from "../errors.ts";

/** The result of a query: its rows, as objects by column name. */
export interface QueryResult {
  /** The rows, in the order the server sent them. */
  // deno-lint-ignore no-explicit-any -- drivers type rows as any; callers check their columns
  readonly rows: any[];
}

/**
 * An object that can run one SQL statement with numbered parameters.
 *
 * `pg.Client`, `pg.Pool`, a PGlite database and its transactions implement it as they are. Other
 * drivers need one line of wrapping. Hark sends every parameter as text (or as a number or boolean)
 * and casts it in SQL. So no driver has to know the type of a column.
 *
 * @example A transaction of postgres.js
 * ```ts
 * import type { Queryable } from "@hark/postgres";
 *
 * declare const sql: { unsafe(text: string, values: unknown[]): Promise<unknown[]> };
 * const queryable: Queryable = {
 *   query: async (text, values = []) => ({ rows: await sql.unsafe(text, values) }),
 * };
 * ```
 */
export interface Queryable {
  /** Runs one statement. Rejects with the driver's error. */
  query(text: string, values?: unknown[]): Promise<QueryResult>;
}

/** A connection of Hark's own, or a lane of several that are shared. */
export interface OwnConnection extends Queryable {
  /** How many times the usual timeout a query gets from now on. */
  patience: number;
  /** Whether the connection is believed to be up. */
  readonly alive: boolean;
  /** Resolves with the reason once the connection has ended for any reason. */
  readonly ended: Promise<Error>;
  /** Where to read what may take long, so that it delays no other statement. */
  readonly reading: OwnConnection;
  /** What is the same object for all that share these connections. */
  readonly shared: object;
  /**
   * Another share of the same connections, for a statement that several have in common. It outlives
   * this one, and is closed by its owner. Undefined if they are not shared.
   */
  readonly sibling?: () => OwnConnection;
  /**
   * Ends it at once, with the statement that is under way: its time is over. The server may still carry
   * the statement out.
   */
  cut(): void;
  /** Closes the connection, or leaves those that are shared. Never fails. */
  close(): Promise<void>;
  readonly [own]: true;
}

/**
 * Marks a connection of Hark's own. A registered symbol: a program may hold several copies of this
 * package.
 */
export const own: unique symbol = Symbol.for("@hark/postgres:own:1") as never;

/** A connection of Hark's own; undefined for a caller's driver. */
export function ownConnection(db: Queryable | undefined): OwnConnection | undefined {
  return (db as Partial<OwnConnection> | undefined)?.[own] === true
    ? db as OwnConnection
    : undefined;
}

/** Drivers and query builders without query(): how they are known, and what wraps them, if a line does. */
const drivers: readonly {
  readonly name: string;
  readonly methods: readonly string[];
  readonly wrapper?: string;
}[] = [
  {
    name: "postgres.js",
    methods: ["unsafe"],
    wrapper: "{ query: async (text, values = []) => ({ rows: await sql.unsafe(text, values) }) }",
  },
  {
    name: "Kysely",
    methods: ["executeQuery", "selectFrom"],
    wrapper: "{ query: (text, values = []) => db.executeQuery(CompiledQuery.raw(text, values)) }",
  },
  {
    name: "@db/postgres",
    methods: ["queryObject"],
    wrapper: "{ query: (text, values) => client.queryObject(text, values) }",
  },
  {
    name: "Prisma",
    methods: ["$queryRawUnsafe"],
    wrapper:
      "{ query: async (text, values = []) => ({ rows: await prisma.$queryRawUnsafe(text, ...values) }) }",
  },
  { name: "Knex", methods: ["raw", "select", "insert"] },
  { name: "Drizzle", methods: ["execute", "select", "insert"] },
];

function driverOf(db: unknown) {
  if (db === null || typeof db !== "object" && typeof db !== "function") return undefined;
  const has = (name: string) => typeof (db as Record<string, unknown>)[name] === "function";
  return drivers.find(({ methods }) => methods.every(has));
}

/**
 * Refuses a value that cannot run a query.
 *
 * @throws {HarkError} `BAD_OPTION`.
 */
export function requireQueryable(db: unknown): asserts db is Queryable {
  if (typeof (db as Queryable | null | undefined)?.query === "function") return;
  // A text is most likely a URL with a password.
  const what = typeof db === "string" ? "text" : show(db);
  const driver = driverOf(db);
  const isPromise = typeof (db as PromiseLike<unknown> | null | undefined)?.then === "function";
  throw new HarkError(
    "BAD_OPTION",
    `db is ${driver === undefined ? what : `of ${driver.name}, which has no query()`}`,
    {
      remedy: driver !== undefined
        ? `Wrap it${
          driver.wrapper === undefined ? "" : ` as ${driver.wrapper}`
        }: see docs/guide/drivers.md.`
        : isPromise
        ? "Await it: const db = await connect(url)."
        : typeof db === "string"
        ? "Give what connect(url) returns: const db = await connect(url)."
        : "Give a Database, a pg.Client or Pool, a PGlite, or a wrapped driver.",
    },
  );
}

/**
 * Marks a connection that is used by others afterwards, such as that of a transaction. A registered
 * symbol: a program may hold several copies of this package.
 */
export const lent: unique symbol = Symbol.for("@hark/postgres:lent:1") as never;

/**
 * The property that holds the connections of a `Database`. A registered symbol instead of instanceof:
 * a module of consumers may have imported another copy of this package than the program that runs it.
 */
export const connectionsKey: unique symbol = Symbol.for("@hark/postgres:connections:1") as never;

/** The property that holds the connections of a `Database` to its replica. */
export const replicaKey: unique symbol = Symbol.for("@hark/postgres:replica:1") as never;

/** Whether it is a `Database`, which runs each statement on a connection of a pool. */
export function isDatabase(db: Queryable): boolean {
  return (db as { [connectionsKey]?: unknown })[connectionsKey] !== undefined;
}

/**
 * Runs the first statement of a call on a driver that Hark does not know, and refuses a result that
 * has another shape. A wrapper that forgets `{ rows }` would otherwise fail far from here.
 *
 * @param hasRows Whether the statement returns at least one row.
 */
export async function firstQuery(
  db: Queryable,
  text: string,
  values?: unknown[],
  hasRows: boolean = true,
): Promise<QueryResult> {
  requireQueryable(db);
  const result: unknown = await (values === undefined ? db.query(text) : db.query(text, values));
  const rows = (result as Partial<QueryResult> | null | undefined)?.rows;
  if (Array.isArray(rows) && (hasRows ? isObject(rows[0]) : true)) return result as QueryResult;
  throw new HarkError("BAD_OPTION", `db.query resolved to ${shape(result, rows)}`, {
    remedy: "It must resolve to { rows }, with an object for each row: " +
      "{ query: async (text, values) => ({ rows: await … }) }.",
  });
}

function isObject(row: unknown): boolean {
  return row !== null && typeof row === "object" && !Array.isArray(row);
}

/** What a result is, without the values in it. */
function shape(result: unknown, rows: unknown): string {
  if (Array.isArray(result)) return "an array";
  if (!isObject(result)) return show(result);
  if (rows === undefined) {
    return `an object without rows, but with ${Object.keys(result as object)}`;
  }
  if (!Array.isArray(rows)) return "rows that are no array";
  if (rows.length === 0) return "no rows, for a statement that returns one";
  return `rows of which the first is ${Array.isArray(rows[0]) ? "an array" : show(rows[0])}`;
}

/** Where a database is, without secrets. */
export interface Place {
  readonly address: string | undefined;
  readonly port: number | undefined;
  /** The database's name. */
  readonly database: string | undefined;
}

/** Where a connection of Hark's own leads. A registered symbol, as above. */
export const placed: unique symbol = Symbol.for("@hark/postgres:place:1") as never;
