/**
 * What follows when the reading of a partition is halted.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import type { Assignment } from "../lease/assignment.ts";
import type { Membership } from "../lease/membership.ts";
import { numbersText } from "../state/identity.ts";
import type { State } from "../state/state.ts";

const logger = getLogger(["hark", "consumer"]);

/** The halted partitions of a worker. */
export class Halts {
  readonly #state: State;
  readonly #membership: Membership;
  readonly #assignment: Assignment;
  readonly #store: (session: Queryable) => Promise<void>;

  /** @param store Stores all progress. */
  constructor(
    state: State,
    membership: Membership,
    assignment: Assignment,
    store: (session: Queryable) => Promise<void>,
  ) {
    this.#state = state;
    this.#membership = membership;
    this.#assignment = assignment;
    this.#store = store;
  }

  /**
   * Once no handler runs for a halted partition, stores its results. Then gives the partition back
   * or claims it again.
   */
  async finish(session: Queryable): Promise<void> {
    const { partitions, readers } = this.#state;
    for (const reader of [...readers]) {
      // This reader has read to the mark at which the number of partitions changes.
      const held = [...reader.partitions];
      if (
        !reader.settled || reader.inWindow || held.some((h) => h.outstanding > 0 || h.running > 0)
      ) {
        continue;
      }
      await this.#store(session);
      for (const one of held) this.#state.halt(one, "release");
    }
    const over = [...partitions.values()].filter((held) =>
      (held.halted === "release" || held.halted === "unsure") && held.running === 0
    );
    if (over.length === 0) return;
    for (const held of over) this.#state.tellDone(held);
    await this.#store(session);
    // A partition that was lost or claimed again in between is another object by now.
    const left = over.filter((held) => partitions.get(held.number) === held);
    const released = left.filter((held) => held.halted === "release");
    if (released.length > 0) {
      await this.#membership.release(session, released);
      for (const held of released) this.#state.forget(held, new Error("given back"));
    }
    const unsure = left.filter((held) => held.halted === "unsure").map((held) => held.number);
    if (unsure.length > 0) await this.#assignment.claim(session, unsure, false);
  }

  /**
   * Tells the database which partitions are halted, so that status names them. While the number of
   * partitions is being changed, that takes the change back: a halted partition does not reach the
   * point at which all are changed.
   */
  async tell(session: Queryable): Promise<void> {
    if (this.#untold().length === 0) return;
    await this.#store(session);
    const halted = this.#untold();
    if (halted.length === 0) return;
    const { consumer, owner } = this.#state.options.identity;
    const { rows: [row] } = await translated(() =>
      session.query(
        `select hark.report_halts($1::text, $2::uuid, $3::text::integer[], $4::text::bigint[],
          $5::text::text[]) as taken_back`,
        [
          consumer,
          owner,
          numbersText(halted.map((held) => held.number)),
          numbersText(halted.map((held) => held.epoch)),
          `{${halted.map((held) => held.halted).join(",")}}`,
        ],
      )
    );
    for (const held of halted) held.haltTold = true;
    if (row.taken_back === null) return;
    logger.error(
      "{consumer}: the change to {count} partitions was taken back, because partition {partition} is held up " +
        "and all others would wait for it; hark status names the notification that holds it up",
      { consumer, count: Number(row.taken_back), partition: halted[0]!.number },
    );
  }

  #untold() {
    return [...this.#state.partitions.values()].filter((held) =>
      (held.halted === "blocked" || held.halted === "full") && !held.haltTold
    );
  }
}
