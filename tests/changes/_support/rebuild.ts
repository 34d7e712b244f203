/**
 * A copy of a table, kept by nothing but the notifications of its changes.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Notification } from "../../../mod.ts";

/** A row as JSON. */
export type Fields = Record<string, unknown>;

/** What is published of a change. */
export interface Payload {
  readonly schema: string;
  readonly table: string;
  readonly action: "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" | "SNAPSHOT";
  readonly id: unknown;
  readonly old?: Fields;
  readonly new?: Fields;
  readonly changed?: readonly string[];
  readonly moved?: true;
  readonly truncated?: true;
  readonly partition?: string;
  readonly metadata: Fields;
}

/** Follows the changes of a table, and fails at the first that does not follow from those before. */
export class Rebuilt {
  /** Whether changes may come of rows that are not known yet, as while a snapshot is under way. */
  readonly #unknown: boolean;
  /** Rows by key. */
  readonly #rows = new Map<string, Fields>();
  /** In which partition the row of a key is. */
  readonly #partitions = new Map<string, string | undefined>();
  /** How often each row is there, of a table without a key. */
  readonly #bag = new Map<string, number>();
  /** What was followed, by action. */
  readonly counts: Record<string, number> = {};

  /** A table that is empty, or with `unknown` one whose rows are yet to be published. */
  constructor(unknown = false) {
    this.#unknown = unknown;
  }

  /** Takes in the next change. */
  apply(n: Notification<Payload>): void {
    const change = n.payload;
    const name = change.moved ? `moved ${change.action}` : change.action;
    this.counts[name] = (this.counts[name] ?? 0) + 1;
    try {
      if (change.action === "TRUNCATE") {
        for (const id of [...this.#rows.keys()]) {
          const within = change.partition ?? this.#partitions.get(id);
          if (this.#partitions.get(id) === within) this.#rows.delete(id);
        }
        this.#bag.clear();
      } else if (change.id === null) {
        this.#keyless(change);
      } else {
        assert.equal(n.key, keyOf(change.id));
        this.#keyed(change, text(change.id));
        this.#partitions.set(text(change.id), change.partition);
      }
    } catch (error) {
      throw new Error(`after ${n.id} ${JSON.stringify(change)}: ${(error as Error).message}`);
    }
  }

  /** The rows, in the order of their JSON. */
  get rows(): string[] {
    return [
      ...[...this.#rows.values()].map(text),
      ...[...this.#bag].flatMap(([row, count]) => Array<string>(count).fill(row)),
    ].sort();
  }

  #keyed({ action, old, new: now, changed }: Payload, id: string): void {
    const before = this.#rows.get(id);
    if (before === undefined && this.#unknown && (action === "UPDATE" || action === "DELETE")) {
      // Of a "diff" only the row that is to come says all.
      if (now !== undefined && changed!.length < Object.keys(now).length) this.#rows.set(id, now);
      return;
    }
    switch (action) {
      case "SNAPSHOT": // the change of the row before was published that already
        this.#rows.set(id, now!);
        return;
      case "INSERT":
        assert.equal(before, undefined, "a row came to a key that was taken");
        this.#rows.set(id, now!);
        return;
      case "DELETE":
        assert(before, "a row went that was not there");
        if (old !== undefined) assert.deepEqual(old, before);
        this.#rows.delete(id);
        return;
      case "UPDATE": {
        assert(before, "a row changed that was not there");
        if (old !== undefined) {
          assert.deepEqual(old, pick(before, Object.keys(old)), "it changed from something else");
          const after = { ...before, ...now };
          const differs = Object.keys(after).filter((c) => text(after[c]) !== text(before[c]));
          assert.deepEqual([...changed!].sort(), differs.sort());
        }
        this.#rows.set(id, { ...before, ...now });
      }
    }
  }

  #keyless({ action, old, new: now }: Payload): void {
    if (action !== "INSERT" && action !== "SNAPSHOT") {
      const row = text(old);
      const count = this.#bag.get(row) ?? 0;
      assert(count > 0, "a row went or changed that was not there");
      if (count === 1) this.#bag.delete(row);
      else this.#bag.set(row, count - 1);
    }
    if (action === "DELETE") return;
    this.#bag.set(text(now), (this.#bag.get(text(now)) ?? 0) + 1);
  }
}

/** JSON with the fields of each object in order. */
export function text(value: unknown): string {
  return JSON.stringify(
    value,
    (_, inner) =>
      inner !== null && typeof inner === "object" && !Array.isArray(inner)
        ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => a < b ? -1 : 1))
        : inner,
  );
}

/** The key of a notification about a row with this id: the columns' texts, in the order of `id`. */
function keyOf(id: unknown): string {
  if (id === null || typeof id !== "object") return String(id);
  return `[${Object.values(id).map((value) => JSON.stringify(String(value))).join(", ")}]`;
}

function pick(row: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(names.map((name) => [name, row[name]]));
}
