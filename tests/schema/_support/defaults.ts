/**
 * Databases with settings of their own.
 *
 * @module
 */

import { test, type TestContext } from "../../harness/mod.ts";
import { type LifeOptions, lifeTables, live } from "./life.ts";

/** Settings of PostgreSQL and their values. */
export type Settings = Readonly<Record<string, string>>;

/** Makes settings the defaults of a test's database, if the server has them. */
export async function set({ sql, database }: TestContext, settings: Settings): Promise<void> {
  for (const [name, value] of Object.entries(settings)) {
    // Versions differ in their settings: force_parallel_mode has another name since PostgreSQL 16.
    const [known] = await sql("select enumvals from pg_settings where name = $1", [name]);
    if (known === undefined && !name.includes(".")) continue;
    // A server may be built without LZ4.
    if (value === "lz4" && !known.enumvals.includes(value)) continue;
    await sql(`alter database ${database} set ${name} = '${value}'`);
  }
}

/** Adds a test that all of Hark works where these settings are the defaults. */
export function testDefaults(settings: Settings, options?: LifeOptions): void {
  const text = Object.entries(settings).map(([name, value]) => `${name} = '${value}'`).join(", ");
  test(`Hark works where the default is ${text}`, { schema: false }, async (context) => {
    await context.sql(lifeTables);
    await set(context, settings);
    await live(context.url, options);
  });
}
