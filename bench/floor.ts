/**
 * The floor: what PostgreSQL does with the same row and nothing else around it.
 *
 * @module
 */

import type { Queryable } from "@hark/postgres";

/** Makes `plain.log`: the columns and the primary key of Hark's log, and no more. */
export async function plainTable(db: Queryable): Promise<void> {
  await db.query("create schema if not exists plain");
  await db.query(`create table plain.log (like hark.log including defaults including identity)`);
  await db.query(`alter table plain.log add primary key (id)`);
}

/** A payload of about so many bytes, as the text of a JSON object. It is told by `n`. */
export function payloadOf(bytes: number, n = 0): { n: number; filler: string } {
  return { n, filler: "x".repeat(Math.max(0, bytes - 24)) };
}

/** How the driver puts many rows in with one statement: one parameter, as the peers do it too. */
export const insertMany = `insert into plain.log (channel, key, payload, headers)
  select n.channel, n.key, n.payload, n.headers
  from json_to_recordset($1::text::json) n (channel text, key text, payload jsonb, headers jsonb)
  returning id`;
