/**
 * PGlite for tests. It takes seconds of work to begin, so all tests of a program share one.
 *
 * @module
 */

import { PGlite } from "npm:@electric-sql/pglite@0.5.16";

let shared: Promise<PGlite> | undefined;

/** A PGlite with nothing in it. The next test that asks empties it. */
export async function emptyPGlite(): Promise<PGlite> {
  const lite = await (shared ??= PGlite.create());
  await lite.exec(`
    drop schema if exists hark cascade;
    drop schema public cascade;
    create schema public;
    discard all;
  `);
  return lite;
}
