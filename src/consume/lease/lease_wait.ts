/**
 * Says for whose lease a worker waits.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import type { Identity } from "../state/identity.ts";

const logger = getLogger(["hark", "consumer"]);

/** How long a wait is worth no word, and how often it is looked at afterwards, in milliseconds. */
const quiet = 1000;

/**
 * A worker without a LISTEN session, such as a drain, that was killed looks like one that lives until
 * its lease ends. A worker that waits for it says so, once for each.
 */
export class LeaseWait {
  readonly #identity: Identity;
  readonly #drain: boolean;
  readonly #told = new Set<string>();
  #nextLook: number | undefined;

  constructor(identity: Identity, drain: boolean) {
    this.#identity = identity;
    this.#drain = drain;
  }

  /** This worker waits for others, which serve partitions. */
  async tell(session: Queryable): Promise<void> {
    const now = performance.now();
    this.#nextLook ??= now + quiet;
    if (now < this.#nextLook) return;
    this.#nextLook = now + quiet;
    const { consumer, owner, lease } = this.#identity;
    const { rows } = await translated(() =>
      session.query(
        `select w.owner::text as owner, coalesce(w.name, w.owner::text) as name,
          pg_catalog.array_to_string(w.partitions, ', ') as partitions, w.listening, extract(epoch from
            w.lease_until - pg_catalog.clock_timestamp())::double precision * 1000 as remaining
        from hark.workers_of($1::text) w where w.owner <> $2::uuid and w.alive and w.partitions <> '{}'`,
        [consumer, owner],
      )
    );
    for (const row of rows) {
      const left = Math.round(Number(row.remaining));
      // A drain waits for all that serve. To stand by beside a worker that lives is ordinary: its
      // lease is renewed every quarter.
      const isWorthTelling = this.#drain || !row.listening && left < lease / 2;
      if (!isWorthTelling || this.#told.has(row.owner)) continue;
      this.#told.add(row.owner);
      const isOne = !row.partitions.includes(",");
      logger.warn(
        "{consumer}: waiting for {worker}, which serves {what}; if it was killed, for the end of " +
          "its lease, up to {left} ms",
        {
          consumer,
          worker: row.name,
          what: `partition${isOne ? "" : "s"} ${row.partitions}`,
          left,
        },
      );
    }
  }

  /** This worker does not wait, or no longer. */
  over(): void {
    this.#nextLook = undefined;
  }
}
