/**
 * A worker made of SQL calls, one at a time, so that a test can stop it anywhere.
 *
 * @module
 */

import type { Client } from "../../harness/mod.ts";
import { pageRows } from "../../windows/_support/page_rows.ts";
import {
  claimedColumns,
  claimedPlace,
  cut,
  type Place,
  stored,
} from "../../windows/_support/reader.ts";

/** Serves a consumer by hand. */
export class ByHand {
  readonly #client: Client;
  readonly #consumer: string;
  readonly #channels: readonly string[];
  /** Who it is. */
  readonly owner: string = crypto.randomUUID();
  #held: { partition: number; epoch: string; position: Place }[] = [];
  #partitions = 1;

  /** A worker of a consumer that is registered with these channels. */
  constructor(client: Client, consumer: string, channels: readonly string[] = ["c"]) {
    this.#client = client;
    this.#consumer = consumer;
    this.#channels = channels;
  }

  /** Joins, and claims whatever is free. */
  async claim(): Promise<void> {
    const attended = await this.#client.query(
      `select h.* from (select hark.turn_partitions($1)) t, hark.heartbeat($2, null, 60000, true, null, array[$1::text],
        array[$2::uuid], '{null}', json_build_array(json_build_object('channels', $3::text[], 'filter', null,
        'transactional', false))) h`,
      [this.#consumer, this.owner, this.#channels],
    );
    this.#partitions = attended.rows[0].partitions;
    const { rows } = await this.#client.query(
      `select ${claimedColumns} from hark.claim($1, $2, $3)`,
      [this.#consumer, attended.rows[0].free, this.owner],
    );
    this.#held = rows.map((row) => ({ ...row, position: claimedPlace(row) }));
  }

  /** Reads a window of everything it holds, and gives what came: ids, in order within a partition. */
  async read(): Promise<number[]> {
    const ids: number[] = [];
    for (const held of this.#held) {
      const { seen, target, lastId, afterId } = held.position;
      const end = target ?? await cut(this.#client);
      await this.#client.query("select * from hark.window($1, $2, $3, $4, $5::hark.marks, $6)", [
        this.#consumer,
        this.owner,
        [held.partition],
        [held.epoch],
        end,
        target === null,
      ]);
      const page = await this.#client.query(
        `select id from ${
          pageRows(`$1::hark.marks, $2::hark.marks, $3, $4, $5, 10000, 100000000, 100000, null,
            null, $6, $7`)
        } r`,
        [
          seen,
          end,
          target === null ? null : lastId,
          afterId,
          this.#channels,
          this.#partitions,
          [held.partition],
        ],
      );
      held.position = { seen: end, target: null, lastId: null, afterId };
      ids.push(...page.rows.slice(0, -1).map(({ id }) => Number(id)));
    }
    return ids;
  }

  /** Stores that it has handled what it read. */
  async acknowledge(outcomes: readonly object[] = []): Promise<void> {
    const places = this.#held.map(({ position }) => stored(position));
    const each = (at: number) => places.map((place) => place[at]);
    await this.#client.query(
      `select hark.acknowledge($1, $2, $3, $4, $5::hark.marks[], $6::bigint[], $7::bigint[], $8::bigint[],
         $9::bigint[], $10, $11, $12::json)`,
      [
        this.#consumer,
        this.owner,
        this.#held.map(({ partition }) => partition),
        this.#held.map(({ epoch }) => epoch),
        each(0).flat(),
        each(1),
        each(2),
        each(3),
        each(4),
        this.#held.map(() => 1),
        this.#held.map(() => true),
        outcomes.length === 0 ? null : JSON.stringify(outcomes),
      ],
    );
  }

  /** Handles all there is, and leaves. */
  async drain(): Promise<number[]> {
    await this.claim();
    const ids: number[] = [];
    for (let found = await this.read(); found.length > 0; found = await this.read()) {
      ids.push(...found);
      await this.acknowledge();
    }
    await this.leave();
    return ids.sort((a, b) => a - b);
  }

  /** Gives everything back. */
  async leave(): Promise<void> {
    await this.#client.query("select hark.release($1, $2, $3, $4)", [
      this.#consumer,
      this.owner,
      this.#held.map(({ partition }) => partition),
      this.#held.map(({ epoch }) => epoch),
    ]);
    await this.#client.query("select hark.leave($1, $2)", [this.#consumer, this.owner]);
  }
}

/** The numbers from one to another. */
export function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
}

/** Names that need care: quotes, other scripts, what would be a pattern. */
export const odd = `it's "odd" % _ \\ 日本 🦔 $1`;
