/**
 * Which relays there are, and what they wait for.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { numberText } from "../show.ts";
import { date, ms } from "./times.ts";

/** An endpoint of a relay to webhooks that takes no messages now. */
export interface FailingEndpoint {
  /** Its name. */
  readonly endpoint: string;
  /** Whether it is disabled: its notifications become dead letters until it is redriven. */
  readonly disabled: boolean;
  /** Since when nothing but failures came. */
  readonly failingSince: Date;
  /** What went wrong last. */
  readonly reason: string;
}

/** Where a relay publishes, and whether it can. How far it is, its status as a consumer says. */
export interface RelayStatus {
  /** The relay's id, which is the id of its consumer. */
  readonly relay: string;
  /** The targets, each with its address and identity. More than one while the target changes. */
  readonly targets: readonly string[];
  /** What it waits for, such as a target that does not answer; null if for nothing. */
  readonly trouble: string | null;
  /** Since when; null if for nothing. */
  readonly troubleSince: Date | null;
  /** Of a relay to webhooks: how many endpoints fail or are throttled, and are asked again. */
  readonly failingEndpoints: number;
  /** How many endpoints are disabled. */
  readonly disabledEndpoints: number;
  /** Ten of these: those that are disabled first, then those that have failed for longest. */
  readonly endpoints: readonly FailingEndpoint[];
}

/** All relays, by name. */
export async function relayStatuses(db: Queryable): Promise<RelayStatus[]> {
  const { rows } = await db.query(
    `select relay, array_to_json(targets)::text as targets, trouble, ${ms("trouble_since")},
      failing, disabled, endpoints::text as endpoints
    from hark.relay_status()`,
  );
  return rows.map((row) => ({
    relay: row.relay,
    targets: JSON.parse(row.targets),
    trouble: row.trouble,
    troubleSince: date(row.trouble_since),
    failingEndpoints: Number(row.failing),
    disabledEndpoints: Number(row.disabled),
    endpoints: JSON.parse(row.endpoints).map((
      { since, ...one }: Omit<FailingEndpoint, "failingSince"> & { since: number },
    ) => ({ ...one, failingSince: new Date(since) })),
  }));
}

/** How many endpoints of a relay take nothing, such as `1 endpoint disabled, 2 failing`; empty if none. */
export function endpointsText(one: RelayStatus): string {
  const counts = [[one.disabledEndpoints, "disabled"], [one.failingEndpoints, "failing"]] as const;
  return counts.filter(([count]) => count > 0).map(([count, state], i) => {
    const what = i > 0 ? "" : count === 1 ? "endpoint " : "endpoints ";
    return `${numberText(count)} ${what}${state}`;
  }).join(", ");
}
