/** What a partition keeps of the notifications that were read from it. */

import assert from "node:assert/strict";
import { change } from "../../src/consume/state/entry.ts";
import { readEntry } from "../../src/consume/state/new_entry.ts";
import { OwnedPartition } from "../../src/consume/state/partition.ts";
import type { Mark, Position } from "../../src/consume/state/position.ts";
import { test } from "../harness/mod.ts";

const mark = (number: number): Mark => ({ number, life: "a", snapshot: `${number}`, content: "" });
const page: Position = { seen: mark(1), target: mark(2), lastId: 9, afterId: 0 };

test("a partition lets go of what is handled, and still counts it until its position is passed", {
  schema: false,
}, () => {
  const held = new OwnedPartition(
    {
      partition: 0,
      epoch: 1,
      position: { seen: mark(1), target: undefined, lastId: 0, afterId: 0 },
      crashes: 0,
      suspectId: undefined,
      suspectEnds: 0,
      incarnation: "a",
    },
    100,
    new AbortController().signal,
  );
  const entries = [1, 2, 3, 4].map((id) => {
    const row = {
      id,
      channel: "c",
      key: null,
      payload: "1",
      headers: null,
      createdAt: 0,
      isReplay: false,
    };
    return readEntry(row, held, page, undefined);
  });
  for (const entry of entries) held.add(entry);
  const handle = (id: number) => {
    const entry = change(entries[id - 1]!);
    entry.phase = "settled";
    entry.row = undefined;
    held.free();
  };
  const kept = () => held.entries().filter((entry) => entries.includes(entry)).map(({ id }) => id);
  handle(2);
  assert.deepEqual(kept(), [1, 2, 3, 4], "the position cannot pass it yet");
  handle(1);
  assert.deepEqual(kept(), [3, 4]);
  assert.equal(held.outstanding, 4);
  // Of a batch whose results are being told: its bytes still count.
  change(entries[2]!).phase = "settled";
  held.free();
  assert.deepEqual(kept(), [3, 4]);
  assert.equal(held.oldest, entries[3]);
  assert.equal(held.outstanding, 1);
  assert.equal(held.move?.lastId, 3);
  handle(4);
  assert.equal(held.oldest, undefined);
  held.add(entries[0]!);
  assert.equal(held.outstanding, 1);
});
