/**
 * How workers of a process leave, or fall asleep: the last one takes the process's row with it.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { type Held, type Identity, numbersText } from "../state/identity.ts";

/** The order in which the workers of a process depart. */
export class Departures {
  #lyingDown: Promise<unknown> = Promise.resolve();
  readonly #leaving = new Set<Promise<unknown>>();

  /** Workers that stop leave side by side, but beside none that falls asleep. */
  async leave(depart: () => Promise<void>): Promise<void> {
    const leaving = this.#lyingDown.then(depart);
    this.#leaving.add(leaving);
    try {
      await leaving;
    } finally {
      this.#leaving.delete(leaving);
    }
  }

  /** Workers fall asleep one after the other: only so does the last one know that it is. */
  async lieDown<T>(depart: () => Promise<T>): Promise<T> {
    const before = [this.#lyingDown, ...this.#leaving];
    const lying = Promise.allSettled(before).then(depart);
    this.#lyingDown = lying.then(nothing, nothing);
    return await lying;
  }
}

const nothing = () => {};

/**
 * Removes a worker.
 *
 * @param process The process's row, if that goes too.
 * @param unserved Whether it has entered, and claimed nothing since.
 */
export async function leave(
  session: Queryable,
  { consumer, owner }: Identity,
  process: string | null,
  unserved: boolean,
): Promise<void> {
  await translated(() =>
    session.query("select hark.leave($1::text, $2::uuid, $3::uuid, $4::boolean)", [
      consumer,
      owner,
      process,
      unserved,
    ])
  );
}

/**
 * Has a worker fall asleep.
 *
 * @returns in how many milliseconds it has to wake, at most `most`. Undefined if it has something to do
 *   before `least`: then nothing is changed.
 */
export async function fallAsleep(
  session: Queryable,
  { consumer, owner }: Identity,
  process: string | null,
  sessionKey: bigint | undefined,
  held: Held,
  { least, most }: { readonly least: number; readonly most: number },
): Promise<number | undefined> {
  const { rows: [row] } = await translated(() =>
    session.query(
      `select asleep, wakes_in_ms from hark.fall_asleep($1::text, $2::uuid, $3::uuid, $4::bigint,
        $5::text::integer[], $6::text::bigint[], $7::integer, $8::integer)`,
      [
        consumer,
        owner,
        process,
        sessionKey === undefined ? null : String(sessionKey),
        numbersText(held.map(({ number }) => number)),
        numbersText(held.map(({ epoch }) => epoch)),
        least,
        most,
      ],
    )
  );
  return row.asleep === true ? Math.max(0, Number(row.wakes_in_ms)) : undefined;
}
