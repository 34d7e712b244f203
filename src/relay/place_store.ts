/**
 * What the database knows of a relay: its places in the target, and what is handled.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import type { OpenSink } from "./sink.ts";

/** The places of a relay in the database. */
export class PlaceStore {
  readonly #db: Queryable;
  readonly #sink: OpenSink;
  readonly relay: string;
  /** The UUID of the install. Known once it was asked. */
  install = "";

  constructor(db: Queryable, relay: string, sink: OpenSink) {
    this.#db = db;
    this.relay = relay;
    this.#sink = sink;
  }

  /**
   * Asks for the place of a partition: from there on an earlier worker may have published what is not stored
   * as handled. Without a partition it only looks whether another relay of this name is at work.
   *
   * @throws {HarkError} `CONFLICT`.
   */
  async ask(partition: number | null): Promise<number> {
    const { target, end } = this.#sink;
    const { rows: [row] } = await translated(() =>
      this.#db.query(
        "select install::text, known, other from hark.relay_place($1::text, $2::int, $3::text, $4::bigint)",
        [this.relay, partition, target, end],
      )
    );
    if (row.other !== null) {
      throw new HarkError(
        "CONFLICT",
        `relay "${this.relay}" is at work for ${row.other}, and this one is for ${target}`,
        { remedy: "Stop the other one first, or give this one an id of its own." },
      );
    }
    this.install = row.install;
    return Number(row.known);
  }

  /** Which of these notifications are not stored as handled, by partition. */
  async unhandled(ids: readonly number[]): Promise<ReadonlyMap<number, readonly number[]>> {
    const all = new Map<number, number[]>();
    if (ids.length === 0) return all;
    const { rows } = await translated(() =>
      this.#db.query(
        "select partition, id from hark.relay_unhandled($1::text, $2::text::bigint[])",
        [this.relay, `{${ids.join(",")}}`],
      )
    );
    for (const { partition, id } of rows) {
      const known = all.get(Number(partition));
      if (known === undefined) all.set(Number(partition), [Number(id)]);
      else known.push(Number(id));
    }
    return all;
  }

  /** Stores places. Those of partitions that others have claimed since are left. */
  async keep(
    places: readonly {
      readonly number: number;
      readonly epoch: number;
      readonly place: number;
    }[],
  ): Promise<void> {
    await translated(() =>
      this.#db.query(
        "select hark.keep_relay_places($1::text, $2::text, $3::text::int[], $4::text::bigint[], $5::text::bigint[])",
        [
          this.relay,
          this.#sink.target,
          `{${places.map(({ number }) => number).join(",")}}`,
          `{${places.map(({ epoch }) => epoch).join(",")}}`,
          `{${places.map(({ place }) => place).join(",")}}`,
        ],
      )
    );
  }
}
