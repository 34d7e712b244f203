/**
 * Shared by the benches: a database for one bench, quantiles and pauses.
 *
 * @module
 */

import { connect, type Database, migrate } from "@hark/postgres";

/** A database for one bench, dropped at the end. */
export interface OwnDatabase extends AsyncDisposable {
  readonly url: string;
  readonly db: Database;
}

/** Creates a database with Hark's schema on the server of DATABASE_URL. */
export async function ownDatabase(): Promise<OwnDatabase> {
  const admin = Deno.env.get("DATABASE_URL");
  if (admin === undefined) {
    console.error("bench: set DATABASE_URL to a server where databases may be created");
    Deno.exit(2);
  }
  const server = await connect(admin);
  const name = `hark_bench_${crypto.randomUUID().slice(0, 8)}`;
  await server.query(`create database ${name}`);
  const url = new URL(admin);
  url.pathname = `/${name}`;
  const db = await connect(url.href, { queryTimeout: 600_000 });
  await migrate(db);
  return {
    url: url.href,
    db,
    [Symbol.asyncDispose]: async () => {
      await db[Symbol.asyncDispose]();
      await server.query(`drop database if exists ${name} with (force)`);
      await server[Symbol.asyncDispose]();
    },
  };
}

/** The value below which a share of the numbers lies. */
export function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

/** Waits for `ms` milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
