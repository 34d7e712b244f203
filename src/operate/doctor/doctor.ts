/**
 * What is wrong with a set-up, and how to mend it.
 *
 * @module
 */

import { knownOptions, wholeNumber } from "../../check.ts";
import { type Queryable, requireQueryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { ageBounds, type Duration, durationMs } from "../../duration.ts";
import { diagnose } from "./diagnose.ts";
import { facts } from "./facts.ts";
import type { Finding } from "./finding.ts";

export type { Finding };

/** Options of {@linkcode doctor}. */
export interface DoctorOptions {
  /** A transaction is open for too long after this: a {@linkcode Duration}. @default {"5m"} */
  readonly longTransaction?: Duration;
  /** The log is too large from this many bytes on. @default {10737418240} */
  readonly maxLogBytes?: number;
}

/**
 * Looks for what is wrong with a set-up: the schema and the rights of roles, the server's settings,
 * its clock, its connections and the queue of NOTIFY, a pooler that keeps LISTEN from working,
 * transactions and replication slots that hold things up, a replica that lags or cancels reads, consumers that no worker serves, delayed
 * notifications and retention that no worker applies, watches that have drifted, dead letters of
 * consumers and inboxes, and the log's size. Returns a finding for each, with its remedy, errors first. Empty if all is well.
 *
 * Reads only, and opens two connections to try LISTEN if `db` is a `Database`. What the role may not see
 * is a finding, too: run it as a role with `hark.grant_operate` and `pg_read_all_stats`.
 *
 * @throws {HarkError} `BAD_OPTION`; `UNREACHABLE` or `TIMEOUT` if the server does not answer.
 * @example
 * ```ts
 * import { connect, doctor } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for (const { level, problem, remedy } of await doctor(db)) {
 *   console.log(`${level}: ${problem}. ${remedy}`);
 * }
 * ```
 */
export async function doctor(db: Queryable, options: DoctorOptions = {}): Promise<Finding[]> {
  requireQueryable(db);
  knownOptions("doctor", options, ["longTransaction", "maxLogBytes"]);
  const thresholds = {
    longTransaction: durationMs("longTransaction", options.longTransaction, 300_000, ageBounds),
    maxLogBytes: wholeNumber("maxLogBytes", options.maxLogBytes, 10 * 1024 ** 3, 1),
  };
  return await translated(async () => diagnose(await facts(db), thresholds));
}
