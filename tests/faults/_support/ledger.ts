/**
 * Writers that publish numbers, some in long transactions and some rolled back, and what a reader must
 * have got of them.
 *
 * @module
 */

import assert from "node:assert/strict";
import { connect, disconnect } from "../../harness/mod.ts";

/** What a writer has committed: `writer.number`, in the order of its transactions. */
export class Ledger {
  readonly #committed: string[][] = [];
  readonly #stop = new AbortController();
  #writing: Promise<void>[] = [];
  rolledBack = 0;

  /** Begins to write, with a connection for each writer. */
  start(url: string, writers: number, channel = "c"): void {
    const of = (count: number) => Array.from({ length: count }, (_, n) => n);
    this.#writing = of(writers).map((writer) => this.#write(url, writer, channel));
  }

  /** How many were committed by now. */
  get count(): number {
    return this.#committed.reduce((sum, one) => sum + one.length, 0);
  }

  /** Ends the writers. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#writing);
  }

  async #write(url: string, writer: number, channel: string): Promise<void> {
    const mine: string[] = this.#committed[writer] = [];
    const client = await connect(url);
    try {
      for (let n = 0; !this.#stop.signal.aborted;) {
        const [rows, way] = [1 + Math.floor(Math.random() * 5), Math.random()];
        const texts = Array.from({ length: rows }, () => `${writer}.${n++}`);
        await client.query("begin");
        for (const text of texts) {
          await client.query("select hark.notify($1, to_jsonb($2::text))", [channel, text]);
        }
        // One in ten stays open while the others commit hundreds.
        await client.query("select pg_sleep($1)", [way < 0.1 ? Math.random() : 0.005]);
        if (way > 0.85) {
          await client.query("rollback");
          this.rolledBack += rows;
        } else {
          await client.query("commit");
          mine.push(...texts);
        }
      }
    } finally {
      await disconnect(client);
    }
  }

  /** Fails unless a reader got each once, and those of a writer in its order. */
  check(read: readonly unknown[], what: string): void {
    const all = this.#committed.flat();
    const got = new Set(read);
    assert.deepEqual(all.filter((one) => !got.has(one)), [], `${what}: lost`);
    assert.equal(read.length, got.size, `${what}: repeated`);
    assert.equal(read.length, all.length, `${what}: more than was committed`);
    for (const [writer, mine] of this.#committed.entries()) {
      const its = read.filter((one) => String(one).startsWith(`${writer}.`));
      assert.deepEqual(its, mine, `${what}: the order of writer ${writer}`);
    }
  }
}
