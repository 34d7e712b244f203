/**
 * The settings that Hark's own connections run with, whatever their role or database has as its
 * default. A statement of Hark's fails in REPEATABLE READ, in a read-only transaction, or under a
 * timeout meant for others.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import type pg from "pg";
import { longestTimer } from "../duration.ts";
import { translate } from "./translate.ts";

/** What a connection of Hark's own runs with. */
export interface Settings {
  /** The driver's timeout for one query, in milliseconds. */
  readonly queryTimeout: number;
  /** Whether statements of the user's run on it too, whose `search_path` is not Hark's to set. */
  readonly shared: boolean;
}

/** What a `pg.Client` knows of its connection. */
interface Opened {
  /** The server's process, as the server or a pooler has told it. */
  readonly processID: number;
  /** What the URL has set, such as `statement_timeout`. */
  readonly connectionParameters: Readonly<Record<string, unknown>>;
}

type Values = readonly (readonly [name: string, value: string])[];

/** What a transaction needs. `set local` can give it, too. */
function ofTransactions({ queryTimeout, shared }: Settings): Values {
  return [
    // The driver gives up first. Then a statement of the user's ends on the server too.
    ["statement_timeout", String(shared ? Math.min(queryTimeout + 1000, longestTimer) : 0)],
    ["lock_timeout", "0"],
    ["transaction_timeout", "0"],
    ["array_nulls", "on"],
    ...(shared ? [] : [["search_path", "pg_catalog"], ["jit", "off"]] as const),
  ];
}

const checkClient = "client_connection_check_interval";

/** What only a session has. */
const ofSessions: Values = [
  ["default_transaction_isolation", "read committed"],
  ["default_transaction_read_only", "off"],
  ["default_transaction_deferrable", "off"],
  ["idle_session_timeout", "0"],
  // A statement whose client has given it up, for example while it waits for a lock, ends on the server too. Without
  // this each further attempt would leave another backend that waits.
  [checkClient, "5s"],
];

/** Where a server can check for that, and does not already. Others refuse the setting. */
const checksNoClient = `pg_catalog.version() operator(pg_catalog.~) 'linux'
      and pg_catalog.current_setting('${checkClient}', true) operator(pg_catalog.=) '0'`;

/** How a connection was set up. */
export interface SetUp {
  /** Whether the session has its settings. Behind a pooler it has none. */
  readonly direct: boolean;
  /** The server's process that ran the first statement. */
  readonly process: number;
  /** Whether each statement of Hark's needs a transaction that begins with its settings. */
  readonly alone: boolean;
  /** The isolation level that transactions had by default. */
  readonly isolation: string;
  /** Statements that give a transaction its settings, each with a semicolon before it. */
  readonly locals: string;
}

/**
 * Gives a new connection its settings, in one round trip. Behind a transaction pooler it sets nothing: the next
 * transaction may run on another server connection, and a setting would reach other clients. A pooler shows in
 * the number of the server's process, as it tells the client another one than the server does.
 */
export async function setUp(client: pg.ClientBase, settings: Settings): Promise<SetUp> {
  const { processID, connectionParameters: asked } = client as unknown as Opened;
  // What the URL asks for, it gets.
  const values = ofTransactions(settings).filter(([name]) => !asked[name]);
  const { rows } = await client.query(
    `with wanted (name, value) as (values ${
      [...ofSessions, ...values].map(([name, value]) => `('${name}', '${value}')`).join(", ")
    }), found as materialized (
      select w.name, w.value, pg_catalog.current_setting(w.name, true) as before from wanted w
      where w.name operator(pg_catalog.<>) '${checkClient}' or ${checksNoClient}
    )
    select f.name, f.value, f.before, pg_catalog.pg_backend_pid() as process,
      case when pg_catalog.pg_backend_pid() operator(pg_catalog.=) ${Number(processID)}
        then pg_catalog.set_config(f.name, f.value, false) end is not null as done
    from found f where f.before is not null`,
  );
  const before = new Map<string, string>(rows.map((row) => [row.name, row.before]));
  const direct = rows.every((row) => row.done);
  return {
    direct,
    process: Number(rows[0].process),
    alone: !direct && !rows.every(isFit),
    isolation: before.get("default_transaction_isolation")!,
    locals: values.filter(([name]) => before.has(name))
      .map(([name, value]) => `; set local ${name} = '${value}'`).join(""),
  };
}

/** Whether a statement of Hark's may run with what the setting is. */
function isFit({ name, value, before }: { name: string; value: string; before: string }): boolean {
  if (name === "statement_timeout") return before === "0" || inMs(before) >= Number(value) - 1000;
  return before === value || /^(search_path|jit|idle_|client_|default_.*_deferrable)/.test(name);
}

/** A duration as PostgreSQL shows it, in milliseconds. */
function inMs(shown: string): number {
  const [, count, unit = "ms"] = /^(\d+)(ms|s|min|h|d)?$/.exec(shown) ?? [];
  return Number(count ?? 0) *
    ({ ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }[unit] ?? 0);
}

/** Runs one statement of Hark's, in a transaction of its own if its connection needs that. */
export async function runAlone<T>(
  client: pg.ClientBase,
  { alone, locals }: SetUp,
  run: () => Promise<T>,
): Promise<T> {
  if (!alone) return await run();
  try {
    await client.query(`begin isolation level read committed read write${locals}`);
    const result = await run();
    await client.query("commit");
    return result;
  } catch (error) {
    // After a timeout the connection is given up. It would not answer a rollback either.
    if (translate(error).code !== "TIMEOUT") await client.query("rollback").catch(() => {});
    throw error;
  }
}

/**
 * Takes back what statements of the user's have left in a session, as DISCARD ALL does, which cannot be sent
 * together with other statements. Settings then have the defaults of role and database.
 */
export const reset = [
  "reset session authorization",
  "reset role",
  "reset all",
  // What only the session can have: see setUp.
  "set idle_session_timeout = 0",
  `select pg_catalog.set_config('${checkClient}', '5s', false) where ${checksNoClient}`,
  "close all",
  "unlisten *",
  "deallocate all",
  "discard temp",
  "discard sequences",
  "select pg_catalog.pg_advisory_unlock_all()",
].join("; ");
