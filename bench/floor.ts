/**
 * The floor: what PostgreSQL does with the same row and nothing else.
 *
 * @module
 */

import type { Queryable } from "@hark/postgres";

/** Creates `plain.log`: the columns and the primary key of Hark's log, and no more. */
export async function plainTable(db: Queryable): Promise<void> {
  await db.query("create schema if not exists plain");
  await db.query(`create table plain.log (like hark.log including defaults including identity)`);
  await db.query(`alter table plain.log add primary key (id)`);
}

/** A payload of about `bytes` bytes as a JSON object, identified by `n`. */
export function payloadOf(bytes: number, n = 0): { n: number; filler: string } {
  return { n, filler: "x".repeat(Math.max(0, bytes - 24)) };
}

/** Inserts many rows with one statement and one parameter, as the peers do. */
export const insertMany = `insert into plain.log (channel, key, payload, headers)
  select n.channel, n.key, n.payload, n.headers
  from json_to_recordset($1::text::json) n (channel text, key text, payload jsonb, headers jsonb)
  returning id`;
