/**
 * Queries to a running server over a connection: whether it is the expected server, and whether its
 * database exists.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";

/** The role and the database that every embedded server has. */
export const OWNER = "hark";

/** The kinds of answer at a port. */
export type Answer =
  /** The expected server, ready: it accepted the password. */
  | "ready"
  /** A server that is starting up or shutting down. */
  | "busy"
  /** Nothing listens. */
  | "none"
  /** Another server or program. */
  | "stranger";

/** The address of a server, with the password that only it knows. */
export interface Address {
  readonly port: number;
  readonly password: string;
}

/** The URL of a database on the server. */
export function urlOf({ port, password }: Address, database: string = OWNER): string {
  return `postgres://${OWNER}:${password}@127.0.0.1:${port}/${database}`;
}

/** Runs one statement on a connection of its own. Each step may take 5 s. */
export async function ask(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({
    connectionString: url,
    application_name: "hark embedded",
    connectionTimeoutMillis: 5_000,
    query_timeout: 5_000,
  });
  client.on("error", () => {}); // the query below rejects with the same error
  try {
    await client.connect();
    return (await client.query(text)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

/**
 * Finds out what answers at an address. A login proves both sides: SCRAM succeeds only with the
 * server that was created with this password. Another server that took the port over is not
 * mistaken for it.
 */
export async function answerAt(address: Address): Promise<Answer> {
  try {
    await ask(urlOf(address, "postgres"), "select 1");
    return "ready";
  } catch (error) {
    const { code, message } = error as { code?: unknown; message: string };
    if (code === "ECONNREFUSED") return "none";
    if (error instanceof Deno.errors.NotCapable) throw error;
    // 57P03: starting up, shutting down or recovering. 53300: too many connections.
    if (code === "57P03" || code === "57P01" || code === "53300") return "busy";
    return /timeout/.test(message) ? "busy" : "stranger";
  }
}

/** Creates the database {@linkcode OWNER} if it does not exist. */
export async function makeDatabase(address: Address): Promise<void> {
  const url = urlOf(address, "postgres");
  const found = await ask(url, `select 1 from pg_database where datname = '${OWNER}'`);
  if (found.length === 0) await ask(url, `create database ${OWNER}`);
}

/** The process ids of all sessions and background processes that the server shows. */
export async function serverProcesses(address: Address): Promise<number[]> {
  const rows = await ask(
    urlOf(address, "postgres"),
    "select pid from pg_stat_activity where pid <> pg_backend_pid()",
  );
  return rows.map((row) => Number(row.pid));
}
