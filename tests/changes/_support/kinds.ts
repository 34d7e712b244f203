/**
 * What was published, in few words.
 *
 * @module
 */

import type { Row } from "../../harness/mod.ts";
import { type Payload, text } from "./rebuild.ts";

/** What runs SQL: a test's context, a server of its own. */
export interface Sql {
  sql(text: string, values?: unknown[]): Promise<Row[]>;
}

/** A notification of a change. */
export interface Told {
  readonly channel: string;
  readonly key: string | null;
  readonly payload: Payload;
}

/** The changes published since the last call, in the order in which they were written. */
export async function toldOf(on: Sql): Promise<Told[]> {
  return await on.sql(
    `with gone as (delete from hark.log returning *)
     select channel, key, payload from gone order by id`,
  );
}

/**
 * The same in words: `UPDATE 1 {"v":1} > {"v":2}`, `moved DELETE 1 {…}`, `TRUNCATE`; a row without
 * the columns that are null.
 */
export async function told(on: Sql): Promise<string[]> {
  return (await toldOf(on)).map(({ key, payload: { action, moved, old, new: now } }) => {
    const rows = [old, now].filter((row) => row !== undefined).map((row) =>
      text(Object.fromEntries(Object.entries(row!).filter(([, value]) => value !== null)))
    );
    return [moved ? "moved" : "", action, key ?? "", rows.join(" > ")]
      .filter((part) => part !== "").join(" ");
  });
}

/** What hark.watches() finds wrong with all that is watched. */
export async function drift(on: Sql): Promise<string[]> {
  const rows = await on.sql("select unnest(drift) as drift from hark.watches()");
  return rows.map((row) => row.drift);
}

/** Whether triggers publish a statement at once or row by row, and why. */
export async function level(on: Sql): Promise<[string, string | null]> {
  const [row] = await on.sql("select level, reason from hark.watches()");
  return [row.level, row.reason];
}

/** The triggers of Hark, and its functions that are left. */
export async function ours(on: Sql): Promise<string[]> {
  const rows = await on.sql(
    `select tgname || ' on ' || tgrelid::regclass as what from pg_trigger where tgname ~ 'hark'
      union all select proname from pg_proc where proname ~ '^hark_(watch|snapshot)_' order by 1`,
  );
  return rows.map((row) => row.what);
}
