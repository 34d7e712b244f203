/**
 * Which endpoints of a relay fail, and how they are asked again.
 *
 * @module
 */

import { consumerName } from "../../check.ts";
import type { Queryable } from "../../database/queryable.ts";
import { retry } from "../../operate/retry.ts";
import { date, ms } from "../../operate/times.ts";
import { ask } from "../../schema/ask.ts";
import { namePart } from "./named.ts";

/** An endpoint of a relay to webhooks that takes no messages now. */
export interface EndpointStatus {
  /** Its name. */
  readonly endpoint: string;
  /** Whether it is disabled: its notifications become dead letters until it is redriven. */
  readonly disabled: boolean;
  /** How many failures there were in a row. */
  readonly failures: number;
  /** Since when nothing but failures came. */
  readonly failingSince: Date;
  /** When it is asked again; null if it is disabled. */
  readonly askedAgainAt: Date | null;
  /** The status of its last answer; null if none came. */
  readonly status: number | null;
  /** What went wrong last. */
  readonly reason: string;
}

/**
 * The endpoints of a relay to webhooks that take no messages now, by name: those that fail, are
 * throttled, or are disabled. Of one that takes its messages nothing is stored.
 *
 * @throws {HarkError} `NO_CONSUMER` if no relay of this id has run; `NO_PERMISSION` without
 *   `hark.grant_consume`, `hark.grant_operate` or `hark.grant_observe`; `NO_SCHEMA`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { relayEndpoints } from "@hark/postgres/relay";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.table(await relayEndpoints(db, "to-tenants"));
 * ```
 */
export async function relayEndpoints(db: Queryable, relay: string): Promise<EndpointStatus[]> {
  const rows = await ask(
    db,
    `select endpoint, disabled, failures, status, reason, ${ms("failing_since")},
      ${ms("asked_again_at")}
    from hark.relay_endpoints($1::text, true)`,
    [consumerName(relay)],
  );
  return rows.map((row) => ({
    endpoint: row.endpoint,
    disabled: row.disabled,
    failures: Number(row.failures),
    failingSince: date(row.failing_since)!,
    askedAgainAt: date(row.asked_again_at),
    status: row.status === null ? null : Number(row.status),
    reason: row.reason,
  }));
}

/** What {@linkcode redriveEndpoint} has done. */
export interface Redriven {
  /** Whether the endpoint was failing or disabled. */
  readonly enabled: boolean;
  /** How many notifications are tried at once: dead letters of the endpoint, and those that waited. */
  readonly retried: number;
}

/**
 * Asks an endpoint again at once that is failing or disabled, and sends what it has missed: its dead
 * letters, and what waits for it.
 *
 * @throws {HarkError} `NO_CONSUMER`; `NO_PERMISSION` without `hark.grant_operate`; `NO_SCHEMA`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { redriveEndpoint } from "@hark/postgres/relay";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await redriveEndpoint(db, "to-tenants", "acme"));
 * ```
 */
export async function redriveEndpoint(
  db: Queryable,
  relay: string,
  endpoint: string,
): Promise<Redriven> {
  const [{ enabled }] = await ask(
    db,
    "select hark.redrive_endpoint($1::text, $2::text) as enabled",
    [consumerName(relay), endpoint],
  );
  return {
    enabled,
    retried: await retry(db, relay, { error: namePart(endpoint) }),
  };
}
