/**
 * Becoming a worker by one statement, or not at all: for drains that do not wait.
 *
 * @module
 */

import { firstQuery, type Queryable } from "../../database/queryable.ts";
import { translate } from "../../database/translate.ts";
import { requireSchema } from "../../schema/migrate.ts";
import { schemaVersion } from "../../schema/version.ts";
import { definition, type Member } from "./heartbeat.ts";
import { processName } from "./process_name.ts";

/** What became of it: see hark.enter. */
export type Entry = "entered" | "busy" | "register" | "join";

// As for a heartbeat, nothing waits for the disk.
const enterSql = `select case when hark.version() operator(pg_catalog.=) $1::text
 then hark.enter($2::text, $3::uuid, $4::uuid, $5::integer, $6::text, $7::text::json, $8::integer) end as hark_entry,
 pg_catalog.set_config('synchronous_commit', 'off', true) as unwaited`;

/**
 * Has a worker enter, if there is a partition for it. Checks the schema, too: one round trip is enough.
 *
 * @param process The process whose lease is the worker's.
 * @param version The version of the consumer's definition.
 */
export async function enter(
  on: Queryable,
  member: Member,
  process: string,
  version: number,
): Promise<Entry> {
  const { consumer, owner, lease } = member.identity;
  const values = [
    schemaVersion,
    consumer,
    owner,
    process,
    lease,
    processName(),
    JSON.stringify(definition(member)),
    version,
  ];
  try {
    const { rows: [{ hark_entry: entry }] } = await firstQuery(on, enterSql, values);
    if (typeof entry !== "string") await requireSchema(on); // which says what is wrong
    return entry;
  } catch (error) {
    const reason = translate(error);
    if (reason.code === "NO_SCHEMA") await requireSchema(on);
    throw reason;
  }
}
