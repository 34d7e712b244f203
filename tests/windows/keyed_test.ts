/** Which notifications a reader of some partitions, or with a filter, is given. */

import assert from "node:assert/strict";
import { type Row, test } from "../harness/mod.ts";
import { pageRows } from "./_support/page_rows.ts";
import { cut } from "./_support/reader.ts";
import { type Lab, type Staging, stagings } from "./_support/staging.ts";

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
    ["order-4711", 0, 4, 3],
    ["order-4711", 0, 12, 11],
    ["order-4711", 9, 1024, 59],
    ["", 0, 12, 1],
    ["鍵", 0, 12, 5],
    ["🔑", 0, 1024, 671],
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

test("a key alone says the partition, whatever the collation; without one, the id does", async ({ sql }) => {
  for (const partitions of [1, 2, 3, 7, 64, 1024]) {
    const rows = await sql(
      `select hark.partition_of(k.key, k.place, $2) as partition, hark.partition_of(k.key, -1, $2) as same,
         hark.partition_of(k.key collate "POSIX", 5, $2) as collated
       from unnest($1::text[]) with ordinality k (key, place) order by k.place`,
      [keys, partitions],
    );
    rows.forEach(({ partition, same, collated }, n) => {
      assert.ok(partition >= 0 && partition < partitions, `${keys[n]}: ${partition}`);
      if (keys[n] === null) assert.equal(partition, (n + 1) % partitions);
      else assert.deepEqual([same, collated], [partition, partition], keys[n]!);
    });
  }
});

test("keys are spread evenly over the partitions", async ({ sql }) => {
  for (const key of ["n::text", "'order-' || n", "md5(n::text)::uuid::text"]) {
    const rows = await sql(
      `select count(*)::int as count from generate_series(1, 20000) n group by hark.partition_of(${key}, 0, 20)`,
    );
    assert.equal(rows.length, 20);
    for (const { count } of rows) assert.ok(count > 850 && count < 1150, `${key}: ${count}`);
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
      from: "pg_catalog.hashtextextended($1 collate",
      to: "pg_catalog.hashtextextended(pg_catalog.left($1, 1) collate",
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
        const [{ expected }] = await lab.sql(
          `select coalesce(array_agg((coalesce(hashtextextended(l.key collate "C", 0) & 9223372036854775807, l.id)
             % $2)::int order by l.id), '{}') as expected
           from hark.log l where l.id = any ($1)`,
          [ids(taken), partitions],
        );
        assert.deepEqual(taken.map(({ partition }) => partition), expected);
        for (const { partition } of taken) {
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
