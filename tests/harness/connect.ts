/**
 * Plain connections for tests.
 *
 * @module
 */

import "./jitter.ts";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { patient } from "./until.ts";

/** A connection that belongs to a test. */
export type Client = pg.Client;

// deno-lint-ignore no-explicit-any -- a test knows what it selects
export type Row = any;

/** Connects. An error on an idle connection is not an error of the test. */
export async function connect(url: string, config: pg.ClientConfig = {}): Promise<Client> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: patient(10_000),
    ...config,
  });
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** Closes a connection, also one that hangs in a query or behind a cut line. */
export async function disconnect(client: Client): Promise<void> {
  const { connection } = client as unknown as { connection: { stream: { destroy(): void } } };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      connection.stream.destroy();
      resolve();
    }, 2_000);
  });
  await Promise.race([client.end().catch(() => {}), late]);
  clearTimeout(timer);
}

/** Runs one statement on a connection of its own. */
export async function once(url: string, text: string, values?: unknown[]): Promise<Row[]> {
  const client = await connect(url);
  try {
    return (await client.query(text, values)).rows;
  } finally {
    await disconnect(client);
  }
}

/** The URL of another database of the same server. */
export function withDatabaseName(url: string, database: string): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
}
