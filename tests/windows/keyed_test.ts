/** Which notifications a reader of some partitions, or with a filter, is given. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type Row, test } from "../harness/mod.ts";
import { pageRows } from "./_support/page_rows.ts";
import { cut } from "./_support/reader.ts";
import { type Lab, type Staging, stagings } from "./_support/staging.ts";

/** The same, computed without the database. */
function partitionOf(key: string | null, id: number, partitions: number): number {
  if (key === null) return id % partitions;
  return parseInt(createHash("md5").update(key, "utf8").digest("hex").slice(0, 8), 16) % partitions;
}

const keys = [
  null,
  "",
  "a",
  "A",
  " a",
  "1",
  "order-4711",
  "ключ",
  "鍵",
  "🔑",
  "e\u0301",
  "é",
  "'\"\\%_\n\t",
  "x".repeat(1_000),
];

test("a key lies in the same partition for ever", async ({ sql }) => {
  const fixed = [
    ["a", 0, 4, 1],
    ["order-4711", 0, 4, 1],
    ["order-4711", 0, 12, 5],
    ["order-4711", 9, 1024, 185],
    ["", 0, 12, 1],
    ["鍵", 0, 12, 9],
    ["🔑", 0, 1024, 418],
    ["a", 5, 1, 0],
    [null, 0, 12, 0],
    [null, 14, 12, 2],
    [null, 9_007_199_254_740_991, 1000, 991],
  ] as const;
  for (const [key, id, partitions, expected] of fixed) {
    const [{ partition }] = await sql("select hark.partition_of($1, $2, $3) as partition", [
      key,
      id,
      partitions,
    ]);
    assert.equal(partition, expected, `${key}, ${id} of ${partitions}`);
  }
});

test("a key's partition is the first 4 bytes of its md5, modulo their number; without one the id's", async ({ sql }) => {
  for (const partitions of [1, 2, 3, 7, 64, 1024]) {
    const rows = await sql(
      `select hark.partition_of(k.key, k.place, $2) as partition
       from unnest($1::text[]) with ordinality k (key, place) order by k.place`,
      [keys, partitions],
    );
    assert.deepEqual(
      rows.map(({ partition }) => partition),
      keys.map((key, n) => partitionOf(key, n + 1, partitions)),
    );
  }
});

interface Taken {
  readonly id: number;
  readonly key: string | null;
  readonly partition: number;
}

/** All pages of the first window, as a reader of these partitions, or with this filter, is given them. */
async function read(
  lab: Lab,
  partitions: number,
  held: number[] | null,
  filter: unknown = null,
): Promise<Taken[]> {
  const client = await lab.client();
  const target = await cut(client);
  const taken: Taken[] = [];
  let lastId: number | null = null;
  for (let end = false; !end;) {
    const { rows }: { rows: Row[] } = await client.query(
      `select id, key, partition, last_id, window_end
       from ${
        pageRows(
          `(select m from hark.marks m where m.number = 0), $1::hark.marks, $2, 0, array['c'], 7, 100000, 20,
          null, $3, $4, $5`,
        )
      } r`,
      [target, lastId, filter === null ? null : JSON.stringify(filter), partitions, held],
    );
    const last: Row = rows.pop()!;
    lastId = Number(last.last_id);
    end = last.window_end;
    for (const { id, key, partition } of rows) taken.push({ id: Number(id), key, partition });
  }
  return taken;
}

const ids = (rows: readonly { id: number }[]) => rows.map(({ id }) => id);

const together: Staging = {
  promise:
    "readers of some partitions each are given everything between them, each once and in order",
  breaks: [
    {
      rule: "when a page does not ask which partitions are held",
      in: "hark.page",
      from: "hark.partition_of(s.key, s.id, partitions) = any (held)",
      to: "true",
    },
    {
      rule: "when what has no key lies in no partition",
      in: "hark.page",
      from: "hark.partition_of(s.key, s.id, partitions) = any (held)",
      to: "s.key is not null and hark.partition_of(s.key, s.id, partitions) = any (held)",
    },
    {
      rule: "when a key counts by its first letters",
      in: "hark.partition_of",
      from: "pg_catalog.md5($1)",
      to: "pg_catalog.md5(pg_catalog.left($1, 1))",
    },
  ],
  stage: async (lab) => {
    await lab.sql(
      `select hark.notify('c', '1', (array_append($1::text[], 'k' || n))[1 + n % 15])
       from generate_series(1, 300) n`,
      [keys],
    );
    for (
      const [partitions, ...sets] of [[1, [0]], [3, [0, 2], [1]], [7, [0], [1, 2, 6], [3, 4, 5]]]
    ) {
      const all: Taken[] = [];
      for (const held of sets as number[][]) {
        const taken = await read(lab, partitions as number, held);
        assert.deepEqual(ids(taken), ids(taken).toSorted((a, b) => a - b));
        for (const { id, key, partition } of taken) {
          assert.equal(partition, partitionOf(key, id, partitions as number), `${key}, ${id}`);
          assert.ok(held.includes(partition), `partition ${partition} is not held`);
        }
        all.push(...taken);
      }
      assert.deepEqual(
        ids(all).toSorted((a, b) => a - b),
        Array.from({ length: 300 }, (_, n) => n + 1),
      );
    }
    assert.equal((await read(lab, 7, null)).length, 300, "no partitions named: all of them");
    assert.deepEqual(await read(lab, 7, []), []);
  },
};

const filtered: Staging = {
  promise: "a filter lets through what has its key, and contains its payload and its headers",
  breaks: [
    {
      rule: "when a page does not ask it",
      in: "hark.page",
      from: "(filter is null or case when at_once",
      to: "(true or case when at_once",
    },
    {
      rule: "when keys do not count",
      in: "hark.matches",
      from: "coalesce(($1 -> 'key') ? $2, false)",
      to: "true",
    },
    {
      rule: "when payloads have to be equal",
      in: "hark.matches",
      from: "$3 @> ($1 -> 'payload')",
      to: "$3 = ($1 -> 'payload')",
    },
    {
      rule: "when no headers are not like empty ones",
      in: "hark.matches",
      from: "coalesce($4, '{}')",
      to: "$4",
    },
  ],
  stage: async (lab) => {
    await lab.sql(
      `select hark.notify_many('[
        {"channel": "c", "payload": {"kind": "a", "n": 1}, "key": "x", "headers": {"tenant": 1, "h": 2}},
        {"channel": "c", "payload": {"kind": "a", "n": 2}, "key": "y"},
        {"channel": "c", "payload": {"kind": "b", "tags": ["p", "q"]}, "headers": {"tenant": 2}},
        {"channel": "c", "payload": "a", "key": "x"},
        {"channel": "c", "key": "z", "headers": {}},
        {"channel": "d", "payload": {"kind": "a"}, "key": "x"}]')`,
    );
    const cases: [unknown, number[]][] = [
      [null, [1, 2, 3, 4, 5]],
      [{}, [1, 2, 3, 4, 5]],
      [{ payload: { kind: "a" } }, [1, 2]],
      [{ payload: { tags: ["q"] } }, [3]],
      [{ payload: "a" }, [4]],
      [{ headers: {} }, [1, 2, 3, 4, 5]],
      [{ headers: { tenant: 1 } }, [1]],
      [{ key: ["x"] }, [1, 4]],
      [{ key: ["y", "z"] }, [2, 5]],
      [{ key: ["x"], payload: { kind: "a" }, headers: { h: 2 } }, [1]],
      [{ key: ["eve's"] }, []],
    ];
    for (const [filter, expected] of cases) {
      assert.deepEqual(ids(await read(lab, 1, null, filter)), expected, JSON.stringify(filter));
      const halves = [...await read(lab, 2, [0], filter), ...await read(lab, 2, [1], filter)];
      assert.deepEqual(ids(halves).toSorted((a, b) => a - b), expected, JSON.stringify(filter));
    }
  },
};

stagings("a reader is given its own", [together, filtered]);
