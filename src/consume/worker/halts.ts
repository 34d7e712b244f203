/**
 * Tells the database which partitions are halted, so that status names them.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import { numbersText } from "../state/identity.ts";
import type { State } from "../state/state.ts";

const logger = getLogger(["hark", "consumer"]);

/** The halts of a worker's partitions that are not stored yet. */
export class Halts {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  /**
   * Stores the new halts. While the number of partitions is being changed, that takes the change
   * back: a halted partition does not reach the point at which all are changed.
   *
   * @param store Stores what the halted partitions wait for.
   */
  async tell(session: Queryable, store: () => Promise<void>): Promise<void> {
    if (this.#untold().length === 0) return;
    await store();
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
