/**
 * Transactions that publish beside readers, and what these have to be given.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Client } from "../../harness/mod.ts";

interface Published {
  readonly id: number;
  readonly key: string | null;
  /** How many had committed when it was published. */
  readonly after: number;
  /** The how-manieth to commit its transaction was. */
  committed?: number;
}

/** Writers with a transaction each, one operation after the other. */
export class Publishing {
  readonly #writers: { client: Client; open: Published[] | undefined }[];
  readonly #log = new Map<number, Published>();
  #commits = 0;

  /** One writer a connection. */
  constructor(clients: readonly Client[]) {
    this.#writers = clients.map((client) => ({ client, open: undefined }));
  }

  /** Has a writer's transaction take its number. */
  async number(index: number): Promise<void> {
    await (await this.#begin(index)).query("select pg_current_xact_id()");
  }

  /** Publishes one notification in a writer's transaction. */
  async publish(index: number, key: string | null): Promise<void> {
    const client = await this.#begin(index);
    const { rows: [{ id }] } = await client.query("select hark.notify('c', '1', $1) as id", [key]);
    this.#writers[index]!.open!.push({ id: Number(id), key, after: this.#commits });
  }

  /** Ends a writer's transaction. */
  async finish(index: number, how: "commit" | "rollback"): Promise<void> {
    const writer = this.#writers[index]!;
    if (writer.open === undefined) return;
    await writer.client.query(how);
    if (how === "commit") {
      this.#commits++;
      for (const one of writer.open) this.#log.set(one.id, { ...one, committed: this.#commits });
    }
    writer.open = undefined;
  }

  /** Commits whatever is open. */
  async commitAll(): Promise<void> {
    for (const index of this.#writers.keys()) await this.finish(index, "commit");
  }

  /** Leaves no transaction open. */
  async end(): Promise<void> {
    for (const { client } of this.#writers) await client.query("rollback");
  }

  async #begin(index: number): Promise<Client> {
    const writer = this.#writers[index]!;
    if (writer.open === undefined) {
      await writer.client.query("begin");
      writer.open = [];
    }
    return writer.client;
  }

  /** Fails unless each was delivered once, and none before one of its key that it was published after. */
  assertDelivered(delivered: readonly number[]): void {
    assert.deepEqual(
      delivered.toSorted((a, b) => a - b),
      [...this.#log.keys()].sort((a, b) => a - b),
      "each was to be delivered once",
    );
    const latest = new Map<string, Published>();
    for (const id of delivered) {
      const one = this.#log.get(id)!;
      if (one.key === null) continue;
      const last = latest.get(one.key);
      assert.ok(
        last === undefined || one.committed! > last.after,
        `of key ${one.key} ${last?.id} came before ${id}, which had committed when it was published`,
      );
      if (last === undefined || one.after > last.after) latest.set(one.key, one);
    }
  }
}
