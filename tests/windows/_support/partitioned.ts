/**
 * Random interleavings of transactions with workers that hold some of a consumer's partitions each, read
 * them together and apart, take over from each other, and see their number change.
 *
 * @module
 */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { type Client, connect, disconnect, type Row } from "../../harness/mod.ts";
import { pageRows } from "./page_rows.ts";
import { Publishing } from "./publishing.ts";
import {
  attend,
  claimedColumns,
  claimedPlace,
  cut,
  numberOf,
  type Place,
  stored,
} from "./reader.ts";

/** What may happen next. `at` and `by` choose among the things that can do it. */
export interface Operation {
  readonly at: number;
  readonly by: number;
  readonly what: (typeof WEIGHTS)[number][0];
}

const WRITERS = 3;
const OWNERS = 2;
const WEIGHTS = [
  ["number", 3],
  ["publish", 14],
  ["commit", 8],
  ["rollback", 1],
  ["read", 10],
  ["read alike", 8],
  ["acknowledge", 5],
  ["cut", 3],
  ["split", 3],
  ["merge", 8],
  ["claim", 4],
  ["release", 1],
  ["expire", 1],
  ["repartition", 2],
] as const;

/** Sequences of operations. */
export function operations(): fc.Arbitrary<Operation[]> {
  const what = fc.oneof(
    ...WEIGHTS.map(([what, weight]) => ({ weight, arbitrary: fc.constant(what) })),
  );
  const operation = fc.record({ at: fc.nat(29), by: fc.nat(29), what });
  return fc.array(operation, { minLength: 20, maxLength: 90, size: "max" });
}

/** Partitions that one worker reads as one. */
interface Group {
  held: { number: number; epoch: string }[];
  position: Place;
  /** What was read and is not acknowledged yet. */
  pending: { id: number; partition: number }[];
}

interface Owner {
  readonly id: string;
  readonly groups: Group[];
}

const LIMITS = [[500, 1000], [1, 1000], [3, 2]];

class Interleaving {
  readonly #publishing: Publishing;
  readonly #client: Client;
  readonly #owners: Owner[] = Array.from({ length: OWNERS }, () => ({
    id: crypto.randomUUID(),
    groups: [],
  }));
  readonly #delivered: number[] = [];

  constructor(clients: readonly Client[]) {
    this.#client = clients[0]!;
    this.#publishing = new Publishing(clients.slice(1));
  }

  async run(operations: readonly Operation[]): Promise<void> {
    try {
      await this.#client.query("delete from hark.log; delete from hark.consumers;");
      await this.#client.query(
        "select hark.register('r', array['c'], 'beginning', partitions => 3)",
      );
      await this.#claim(this.#owners[0]!, 0);
      for (const operation of operations) await this.#do(operation);
      await this.#publishing.commitAll();
      await this.#finish();
      this.#publishing.assertDelivered(this.#delivered);
    } finally {
      await this.#publishing.end();
    }
  }

  async #do({ at, by, what }: Operation): Promise<void> {
    const writer = at % WRITERS;
    const owner = this.#owners[by % OWNERS]!;
    const group = owner.groups[at % Math.max(owner.groups.length, 1)];
    const other = owner.groups[(at + 1 + by % 2) % Math.max(owner.groups.length, 1)];
    switch (what) {
      case "number":
        return await this.#publishing.number(writer);
      case "publish":
        return await this.#publishing.publish(writer, by % 7 === 0 ? null : `k${by % 7}`);
      case "commit":
      case "rollback":
        return await this.#publishing.finish(writer, what);
      case "claim":
        return await this.#claim(owner, at);
      case "release":
        return await this.#release(owner);
      case "expire":
        await this.#client.query(
          "update hark.processes set lease_until = clock_timestamp() - interval '1 second' where id = $1",
          [owner.id],
        );
        return;
      case "repartition":
        return await this.#repartition(1 + at % 4);
    }
    if (what === "cut") return void await cut(this.#client);
    if (group === undefined) return;
    switch (what) {
      case "read":
        return await this.#read(owner, group, LIMITS[by % LIMITS.length]!, undefined, at % 5 > 1);
      case "read alike":
        if (other !== undefined) await this.#readAlike(owner, group, other);
        return;
      case "acknowledge":
        return await this.#acknowledge(owner, group);
      case "split":
        return this.#split(owner, group);
      case "merge":
        if (other !== undefined) this.#merge(owner, group, other);
        return;
    }
  }

  /** Attends, gives back what is asked for, and claims what is free or was dropped, or some of it. */
  async #claim(owner: Owner, at: number): Promise<void> {
    const told = await attend(this.#client, "r", owner.id);
    if (told.releasing) {
      await this.#client.query("select hark.release('r', $1, $2, $3)", [
        owner.id,
        told.mine,
        told.epochs,
      ]);
      owner.groups.length = 0;
    }
    const held = owner.groups.flatMap(({ held }) => held.map(({ number }) => number));
    const open = [...told.free, ...told.mine.filter((number: number) => !held.includes(number))];
    const wanted = at % 3 === 2 ? open.slice(0, 1) : open;
    const { rows } = await this.#client.query(
      `select ${claimedColumns} from hark.claim('r', $1, $2)`,
      [
        wanted,
        owner.id,
      ],
    );
    for (const row of rows) this.#take(owner, row);
  }

  /** Those that stand at the same place are read as one. */
  #take(owner: Owner, row: Row): void {
    const { partition, epoch } = row;
    const position = claimedPlace(row);
    const held = { number: partition, epoch };
    for (const group of owner.groups) {
      group.held = group.held.filter(({ number }) => number !== partition);
      group.pending = group.pending.filter((row) => row.partition !== partition);
    }
    const same = owner.groups.find((group) =>
      JSON.stringify(group.position) === JSON.stringify(position) && group.pending.length === 0
    );
    if (same !== undefined) same.held.push(held);
    else owner.groups.push({ held: [held], position, pending: [] });
    owner.groups.splice(0, Infinity, ...owner.groups.filter(({ held }) => held.length > 0));
  }

  async #release(owner: Owner): Promise<void> {
    const held = owner.groups.flatMap(({ held }) => held);
    await this.#client.query("select hark.release('r', $1, $2, $3)", [
      owner.id,
      held.map(({ number }) => number),
      held.map(({ epoch }) => epoch),
    ]);
    owner.groups.length = 0;
  }

  async #repartition(partitions: number): Promise<void> {
    // Also while another change is under way: it is replaced, or taken back.
    await this.#client.query("select hark.repartition('r', $1)", [partitions]);
  }

  #identity(owner: Owner, { held }: Group): unknown[] {
    return ["r", owner.id, held.map(({ number }) => number), held.map(({ epoch }) => epoch)];
  }

  /** Runs what an owner may have lost the right to; then nothing of what it read counts. */
  async #served(owner: Owner, group: Group, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      if ((error as { code?: string }).code !== "HK005") throw error;
      owner.groups.splice(owner.groups.indexOf(group), 1);
    }
  }

  /** Reads a page, of a window that ends at a mark, or at a new one. With `looks`, that one is private. */
  async #read(
    owner: Owner,
    group: Group,
    [rows, scanned]: number[],
    mark?: string,
    looks = false,
  ): Promise<void> {
    await this.#served(owner, group, async () => {
      const { seen, target, lastId, afterId } = group.position;
      const isNew = target === null;
      const { rows: page } = await this.#client.query(
        `select r.id, r.partition, r.last_id, r.window_end, hark.content_of(w.target) as target
         from hark.window($1, $2, $3, $4, $5::hark.marks, $6, $7::hark.marks) w,
           lateral ${
          pageRows(`$7::hark.marks, w.target, $8, $9, w.channels, $10, 100000, $11, null, w.filter,
            w.partitions, $3`)
        } r`,
        [
          ...this.#identity(owner, group),
          target ?? mark ?? (looks ? null : await cut(this.#client)),
          isNew,
          seen,
          isNew ? null : lastId,
          afterId,
          rows,
          scanned,
        ],
      );
      const end = page.pop()!;
      group.position = end.window_end
        ? { seen: end.target, target: null, lastId: 0, afterId }
        : { seen, target: end.target, lastId: Number(end.last_id), afterId };
      for (const { id, partition } of page) group.pending.push({ id: Number(id), partition });
    });
  }

  /** Reads up to where another group is, if that is not before this one. */
  async #readAlike(owner: Owner, group: Group, other: Group): Promise<void> {
    if (group === other || group.position.target !== null) return;
    const mark = other.position.target ?? other.position.seen;
    const { rows: [{ later }] } = await this.#client.query(
      `select ((b).upper, -(b).running) >= ((a).upper, -(a).running) as later
       from (select $1::hark.marks as a, $2::hark.marks as b) m`,
      [group.position.seen, mark],
    );
    if (later) await this.#read(owner, group, LIMITS[0]!, mark);
  }

  async #acknowledge(owner: Owner, group: Group): Promise<void> {
    await this.#served(owner, group, async () => {
      const [marks, ...place] = stored(group.position);
      const each = <T>(value: T) => group.held.map(() => value);
      await this.#client.query(
        `select hark.acknowledge($1, $2, $3, $4, $5::hark.marks[], $6, $7, $8, $9, $10::bigint[], $11)`,
        [...this.#identity(owner, group), marks, ...place.map(each), each(1), each(true)],
      );
      this.#delivered.push(...group.pending.map(({ id }) => id));
      group.pending = [];
    });
  }

  #split(owner: Owner, group: Group): void {
    if (group.held.length < 2) return;
    const gone = group.held.pop()!;
    const mine = ({ partition }: { partition: number }) => partition === gone.number;
    owner.groups.push({ ...group, held: [gone], pending: group.pending.filter(mine) });
    group.pending = group.pending.filter((row) => !mine(row));
  }

  /** Two that are between windows at the same mark become one. */
  #merge(owner: Owner, group: Group, other: Group): void {
    const { position: a } = group;
    const { position: b } = other;
    if (group === other || a.target !== null || b.target !== null) return;
    if (numberOf(a.seen) !== numberOf(b.seen)) return;
    group.held.push(...other.held);
    group.pending.push(...other.pending);
    owner.groups.splice(owner.groups.indexOf(other), 1);
  }

  /** The first owner serves alone until the number of partitions is what was asked for, then reads to the end. */
  async #finish(): Promise<void> {
    const [owner] = this.#owners;
    await this.#client.query("delete from hark.workers");
    for (let ends = 0, rounds = 0; ends < 3; rounds++) {
      assert.ok(rounds < 12, "the number of partitions never changes");
      await this.#claim(owner!, 0);
      for (const group of [...owner!.groups]) {
        do await this.#read(owner!, group, LIMITS[0]!); while (
          group.position.target !== null && owner!.groups.includes(group)
        );
        await this.#acknowledge(owner!, group);
      }
      const { rows: [row] } = await this.#client.query(
        "select next_partitions from hark.consumers",
      );
      if (row.next_partitions === null) ends++;
      else if (rounds % 4 === 3) await this.#release(owner!);
    }
  }
}

/** Runs random interleavings and fails with the first that breaks a promise, made as short as it gets. */
export async function holds(url: string, options: {
  readonly runs: number;
  readonly seed: number;
  readonly shrink?: boolean;
}): Promise<void> {
  const { runs, seed, shrink = true } = options;
  const clients = await Promise.all(Array.from({ length: 1 + WRITERS }, () => connect(url)));
  try {
    await fc.assert(
      fc.asyncProperty(operations(), (list) => new Interleaving(clients).run(list)),
      { numRuns: runs, seed, endOnFailure: !shrink },
    );
  } finally {
    await Promise.all(clients.map(disconnect));
  }
}
