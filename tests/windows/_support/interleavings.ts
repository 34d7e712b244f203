/**
 * Random interleavings of transactions and readers, run one operation after the other, with a model
 * of what each reader has to be given.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { type Client, connect, disconnect } from "../../harness/mod.ts";
import { RegisteredReader, UnregisteredReader } from "./reader.ts";

/** What may happen next. `at` chooses among the things that can do it. */
export interface Operation {
  readonly at: number;
  readonly what:
    | "number"
    | "publish"
    | "savepoint"
    | "rollback to"
    | "commit"
    | "rollback"
    | "prepare"
    | "finish prepared"
    | "start reader"
    | "step"
    | "window"
    | "restart"
    | "cut"
    | "thin"
    | "clean";
}

const WRITERS = 5;
const READERS = 5;
const WEIGHTS: readonly [Operation["what"], number][] = [
  ["number", 4],
  ["publish", 12],
  ["savepoint", 2],
  ["rollback to", 1],
  ["commit", 8],
  ["rollback", 1],
  ["prepare", 1],
  ["finish prepared", 1],
  ["start reader", 2],
  ["step", 8],
  ["window", 8],
  ["restart", 2],
  ["cut", 4],
  ["thin", 2],
];

/** Sequences of operations, with cleaning or without. */
export function operations(cleaning: boolean): fc.Arbitrary<Operation[]> {
  const weights = cleaning ? [...WEIGHTS, ["clean", 4] as const] : WEIGHTS;
  const what = fc.oneof(
    ...weights.map(([what, weight]) => ({ weight, arbitrary: fc.constant(what) })),
  );
  const operation = fc.record({ at: fc.nat(29), what });
  return fc.array(operation, { minLength: 20, maxLength: 90, size: "max" });
}

interface Transaction {
  /** Ids published, by savepoint; the last is the innermost. */
  levels: number[][];
}

interface Reading {
  readonly reader: RegisteredReader | UnregisteredReader;
  /** What it must not be given: complete, removed or out of its range when it started. */
  readonly excluded: (id: number) => boolean;
}

/** The state of one run. */
export class Interleaving {
  readonly #free: Client[];
  readonly #taken: Client[] = [];
  readonly #writers: { client: Client; open: Transaction | undefined }[] = [];
  readonly #prepared: { name: string; ids: number[] }[] = [];
  readonly #readings: Reading[] = [];
  readonly #committed = new Set<number>();
  readonly #removed = new Set<number>();
  #names = 0;

  /** Runs on the connections given, as many as it needs. */
  constructor(clients: readonly Client[]) {
    this.#free = [...clients];
  }

  #client(): Client {
    const client = this.#free.pop()!;
    this.#taken.push(client);
    return client;
  }

  /** Runs the operations, ends what is open, reads to the end and compares. */
  async run(operations: readonly Operation[], cleaning: boolean): Promise<void> {
    try {
      for (let n = 0; n < WRITERS; n++) {
        this.#writers.push({ client: this.#client(), open: undefined });
      }
      const admin = this.#writers[0]!.client;
      await admin.query("delete from hark.log; delete from hark.consumers;");
      await this.#startReader(0, cleaning);
      for (const operation of operations) await this.#do(operation, cleaning);
      for (let n = 0; n < WRITERS; n++) await this.#end(n, "commit");
      while (this.#prepared.length > 0) await this.#finishPrepared(0);
      for (const [n, { reader }] of this.#readings.entries()) {
        reader.looks = n % 2 === 0;
        await reader.drain();
      }
      await this.#compare(admin);
    } finally {
      for (const client of this.#taken) await client.query("rollback");
      for (const { name } of this.#prepared) {
        await this.#taken[0]!.query(`rollback prepared '${name}'`);
      }
    }
  }

  async #do({ at, what }: Operation, cleaning: boolean): Promise<void> {
    const index = at % WRITERS;
    const admin = this.#readings[0]!.reader.client;
    const { client, open } = this.#writers[index]!;
    const reading = this.#readings[at % this.#readings.length]!;
    reading.reader.looks = Math.floor(at / READERS) % 2 === 1;
    switch (what) {
      case "number":
        await this.#begin(index);
        await client.query("select pg_current_xact_id()");
        break;
      case "publish": {
        const { levels } = await this.#begin(index);
        const { rows: [{ id }] } = await client.query("select hark.notify('c') as id");
        levels.at(-1)!.push(Number(id));
        break;
      }
      case "savepoint": {
        const { levels } = await this.#begin(index);
        levels.push([]);
        await client.query("savepoint s");
        break;
      }
      case "rollback to":
        if (open !== undefined && open.levels.length > 1) {
          open.levels.pop();
          await client.query("rollback to savepoint s; release savepoint s;");
        }
        break;
      case "commit":
      case "rollback":
        await this.#end(index, what);
        break;
      case "prepare":
        if (open !== undefined && this.#prepared.length < 3) {
          const name = `p${++this.#names}`;
          await client.query(`prepare transaction '${name}'`);
          this.#prepared.push({ name, ids: open.levels.flat() });
          this.#writers[index]!.open = undefined;
        }
        break;
      case "finish prepared":
        await this.#finishPrepared(at);
        break;
      case "start reader":
        if (this.#readings.length < READERS) await this.#startReader(at, cleaning);
        break;
      case "step":
        assertAscending((await reading.reader.step()).rows);
        break;
      case "window":
        assertAscending(await reading.reader.window());
        break;
      case "restart":
        if (reading.reader instanceof RegisteredReader) await reading.reader.restart();
        break;
      case "cut":
        await this.#readings[0]!.reader.client.query("select hark.cut()");
        break;
      case "thin":
        // Marks would have to be older.
        await admin.query(
          "update hark.marks set taken_at = taken_at - interval '1 day' where number > 0",
        );
        await admin.query("select hark.thin_marks('0')");
        break;
      case "clean":
        await this.#clean(this.#readings[0]!.reader.client, at);
        break;
    }
  }

  async #begin(index: number): Promise<Transaction> {
    const writer = this.#writers[index]!;
    if (writer.open === undefined) {
      // Without NOTIFY, after which a transaction cannot be prepared.
      await writer.client.query("begin; set local hark.wake = off;");
      writer.open = { levels: [[]] };
    }
    return writer.open;
  }

  async #end(index: number, how: "commit" | "rollback"): Promise<void> {
    const writer = this.#writers[index]!;
    if (writer.open === undefined) return;
    await writer.client.query(how);
    if (how === "commit") { for (const id of writer.open.levels.flat()) this.#committed.add(id); }
    writer.open = undefined;
  }

  async #finishPrepared(at: number): Promise<void> {
    const [prepared] = this.#prepared.splice(at % Math.max(this.#prepared.length, 1), 1);
    if (prepared === undefined) return;
    await this.#readings[0]!.reader.client.query(`commit prepared '${prepared.name}'`);
    for (const id of prepared.ids) this.#committed.add(id);
  }

  async #startReader(at: number, cleaning: boolean): Promise<void> {
    const client = this.#client();
    const limits = [{}, { rows: 1 }, { rows: 3, scanned: 2 }][at % 3]!;
    const kind = Math.floor(at / 3) % 3 === 1 ? "beginning" : "now";
    const complete = new Set(kind === "now" ? this.#committed : this.#removed);
    const reader = cleaning || at % 2 === 0
      ? await RegisteredReader.open(client, `r${++this.#names}`, ["c"], { kind }, limits)
      : await UnregisteredReader.open(client, null, { kind }, limits);
    this.#readings.push({ reader, excluded: (id) => complete.has(id) });
  }

  /** Cleans whatever may be cleaned; what it says beforehand has to be what it then does. */
  async #clean(client: Client, at: number): Promise<void> {
    const clean = async (dryRun: boolean) => {
      const { rows: [row] } = await client.query(
        "select * from hark.clean(now() + interval '1 hour', 0, $1, false, $2)",
        [at % 2 === 0 ? 10_000 : 3, dryRun],
      );
      return row;
    };
    const { rows: before } = await client.query("select count(*)::int as count from hark.log");
    const said = await clean(true);
    const done = await clean(false);
    assert.deepEqual({ ...said }, { ...done }, "a dry run says what cleaning then does");
    const { rows } = await client.query("select id from hark.log");
    assert.equal(before[0].count - rows.length, Number(done.removed));
    const left = new Set(rows.map(({ id }) => Number(id)));
    for (const id of this.#committed) if (!left.has(id)) this.#removed.add(id);
  }

  async #compare(admin: Client): Promise<void> {
    const { rows } = await admin.query("select id from hark.log");
    assert.deepEqual(
      [...rows.map(({ id }) => Number(id)), ...this.#removed].sort((a, b) => a - b),
      [...this.#committed].sort((a, b) => a - b),
      "the model has to know the log",
    );
    for (const { reader, excluded } of this.#readings) {
      assert.deepEqual(
        reader.delivered.map(({ id }) => id).sort((a, b) => a - b),
        [...this.#committed].filter((id) => !excluded(id)).sort((a, b) => a - b),
        `${reader.constructor.name} was to be given each once`,
      );
    }
  }
}

function assertAscending(rows: readonly { id: number }[]): void {
  for (let n = 1; n < rows.length; n++) {
    assert.ok(rows[n - 1]!.id < rows[n]!.id, "rows of a window come in the order of their ids");
  }
}

/** Runs random interleavings and fails with the first that breaks a promise, made as short as it gets. */
export async function holds(url: string, options: {
  readonly runs: number;
  readonly seed: number;
  readonly cleaning?: boolean;
  readonly shrink?: boolean;
}): Promise<void> {
  const { runs, seed, cleaning = false, shrink = true } = options;
  const clients = await Promise.all(
    Array.from({ length: WRITERS + READERS }, () => connect(url)),
  );
  try {
    await fc.assert(
      fc.asyncProperty(
        operations(cleaning),
        (list) => new Interleaving(clients).run(list, cleaning),
      ),
      { numRuns: runs, seed, endOnFailure: !shrink },
    );
  } finally {
    await Promise.all(clients.map(disconnect));
  }
}
