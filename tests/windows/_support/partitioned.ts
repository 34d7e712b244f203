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
import { attend } from "./reader.ts";

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
  ["pass", 6],
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
  position: string;
  /** Whether a window is open, and whether it has been read to its end. */
  window: "none" | "open" | "ended";
  /** Whether this worker has opened it, or one before: what it only loaded there is no moving past. */
  read: boolean;
  /** When it was opened, and when the last one was left behind. */
  openedAt: number;
  leftAt: number;
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
  #clock = 0;

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
    if (group === undefined) return;
    switch (what) {
      case "read":
        return await this.#read(owner, group, LIMITS[by % LIMITS.length]!);
      case "read alike":
        if (other !== undefined) await this.#readAlike(owner, group, other);
        return;
      case "acknowledge":
        return await this.#acknowledge(owner, group);
      case "pass":
        return await this.#pass(group);
      case "split":
        return this.#split(owner, group);
      case "merge":
        if (other !== undefined) await this.#merge(owner, group, other);
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
    const { rows } = await this.#client.query("select * from hark.claim('r', $1, $2)", [
      wanted,
      owner.id,
    ]);
    for (const row of rows) this.#take(owner, row);
  }

  /** Those that stand at the same place are read as one. */
  #take(owner: Owner, { partition, epoch, position, in_window: inWindow }: Row): void {
    const held = { number: partition, epoch };
    for (const group of owner.groups) {
      group.held = group.held.filter(({ number }) => number !== partition);
      group.pending = group.pending.filter((row) => row.partition !== partition);
    }
    const fresh = (group: Group) => group.position === position && group.pending.length === 0;
    const same = owner.groups.find(fresh);
    if (same !== undefined) same.held.push(held);
    else {
      owner.groups.push({
        held: [held],
        position,
        window: inWindow ? "open" : "none",
        read: false,
        openedAt: 0,
        leftAt: ++this.#clock,
        pending: [],
      });
    }
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

  async #read(
    owner: Owner,
    group: Group,
    [rows, scanned]: number[],
    alike: string | null = null,
  ): Promise<void> {
    if (group.window === "ended") return;
    await this.#served(owner, group, async () => {
      const { rows: page } = await this.#client.query(
        `select r.id, r.partition, r.position::text, r.window_end
         from hark.window($1, $2, $3, $4, $5::hark.position, $6::hark.position) w,
           lateral ${
          pageRows("w.position, w.channels, $7, 100000, $8, null, w.filter, w.partitions, $3")
        } r`,
        [...this.#identity(owner, group), group.position, alike, rows, scanned],
      );
      const end = page.pop()!;
      if (group.window === "none") group.openedAt = ++this.#clock;
      group.read = true;
      group.window = end.window_end ? "ended" : "open";
      group.position = end.position;
      for (const { id, partition } of page) group.pending.push({ id: Number(id), partition });
    });
  }

  /** Reads up to where another group reads, if that one began after this one had left its last window behind. */
  async #readAlike(owner: Owner, group: Group, other: Group): Promise<void> {
    if (group === other || group.window !== "none") return;
    if (other.window === "none") await this.#read(owner, other, LIMITS[0]!);
    if (!owner.groups.includes(other) || other.openedAt < group.leftAt) return;
    await this.#read(owner, group, LIMITS[0]!, other.position);
  }

  async #acknowledge(owner: Owner, group: Group): Promise<void> {
    if (!group.read) return;
    await this.#served(owner, group, async () => {
      const count = group.held.length;
      const { rows: [{ moved }] } = await this.#client.query(
        "select hark.acknowledge($1, $2, $3, $4, $5, $6::bigint[], $7::bigint[], $8) as moved",
        [
          ...this.#identity(owner, group),
          Array(count).fill(group.position),
          Array(count).fill(null),
          Array(count).fill(1),
          Array(count).fill(true),
        ],
      );
      this.#delivered.push(...group.pending.map(({ id }) => id));
      group.pending = [];
      this.#left(group, moved[0]);
    });
  }

  async #pass(group: Group): Promise<void> {
    if (group.window !== "ended") return;
    const { rows: [{ position }] } = await this.#client.query(
      "select hark.window_skip($1::hark.position)::text as position",
      [group.position],
    );
    this.#left(group, position);
  }

  #left(group: Group, position: string): void {
    group.position = position;
    if (group.window !== "ended") return;
    group.window = "none";
    group.leftAt = ++this.#clock;
  }

  #split(owner: Owner, group: Group): void {
    if (group.held.length < 2) return;
    const gone = group.held.pop()!;
    const mine = ({ partition }: { partition: number }) => partition === gone.number;
    owner.groups.push({ ...group, held: [gone], pending: group.pending.filter(mine) });
    group.pending = group.pending.filter((row) => !mine(row));
  }

  /** Two that have read to the same snapshot become one; others are refused. */
  async #merge(owner: Owner, group: Group, other: Group): Promise<void> {
    if (group === other) return;
    try {
      const { rows: [{ position }] } = await this.#client.query(
        "select hark.merged($1::hark.position, $2::hark.position)::text as position",
        [group.position, other.position],
      );
      group.position = position;
    } catch (error) {
      assert.equal((error as { code: string }).code, "XX000");
      return;
    }
    group.held.push(...other.held);
    group.pending.push(...other.pending);
    group.leftAt = Math.max(group.leftAt, other.leftAt);
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
          group.window === "open" && owner!.groups.includes(group)
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
