/** For whom a page is that several consumers read in common, and that each of the checks is needed. */

import assert from "node:assert/strict";
import { spawnDeno, test, type TestContext } from "../harness/mod.ts";
import { type Break, replaceIn } from "./_support/staging.ts";
import { cut } from "./_support/reader.ts";

interface Member {
  consumer: string;
  owner: string;
  channels: string[];
  held: number[];
  epochs: number[];
}

/** Six consumers of two partitions each, which a worker each serves. */
async function members({ sql }: TestContext): Promise<Member[]> {
  const all: Member[] = [];
  for (let n = 0; n < 6; n++) {
    const [consumer, owner, channels] = [`c${n}`, crypto.randomUUID(), [`a${n}`, `b${n}`]];
    await sql("select hark.register($1, $2, partitions => 2)", [consumer, channels]);
    await sql(
      `select from hark.heartbeat($1, null, 60000, true, null, array[$2::text], array[$3::uuid], '{null}',
         json_build_array(json_build_object('channels', $4::text[], 'filter', null, 'transactional', false)))`,
      [crypto.randomUUID(), consumer, owner, channels],
    );
    const held = await sql("select partition, epoch from hark.claim($1, '{0,1}', $2)", [
      consumer,
      owner,
    ]);
    all.push({
      consumer,
      owner,
      channels,
      held: held.map(({ partition }) => partition),
      epochs: held.map(({ epoch }) => Number(epoch)),
    });
  }
  return all;
}

const routes = async (context: TestContext, all: readonly Member[], partitions = 2) => {
  const seen = await cut(await context.client());
  const rows = await context.sql(
    `select w.routes, w.channels, (w.target).number = $3::bigint as here
     from hark.common_window($1::json, $2, null, $4::hark.marks) w`,
    [JSON.stringify(all), partitions, Number(/-?\d+/.exec(seen)![0]), seen],
  );
  return rows;
};

/** What befalls the third of them, and the check that finds it. */
const refused: readonly {
  readonly what: string;
  readonly act: (context: TestContext, third: Member) => Promise<unknown>;
  readonly without: Omit<Break, "rule">;
}[] = [
  {
    what: "its epoch is over",
    act: ({ sql }) =>
      sql("update hark.partitions set epoch = epoch + 1 where consumer = 'c2' and partition = 1"),
    without: { from: "and s.epoch = h.epoch", to: "" },
  },
  {
    what: "another owns a partition",
    act: ({ sql }) =>
      sql(
        "update hark.partitions set owner = gen_random_uuid() where consumer = 'c2' and partition = 0",
      ),
    without: { from: "and s.owner = m.owner", to: "" },
  },
  {
    what: "it has a filter",
    act: ({ sql }) => sql(`update hark.consumers set filter = '{"key": ["k"]}' where name = 'c2'`),
    without: { from: "and k.filter is null", to: "" },
  },
  {
    what: "its number of partitions is about to change",
    act: ({ sql }) =>
      sql(
        "update hark.consumers set barrier = (select max(number) from hark.kept_marks) where name = 'c2'",
      ),
    without: { from: "and k.barrier is null", to: "" },
  },
  {
    what: "its number of partitions has changed",
    act: ({ sql }) => sql("update hark.consumers set partitions = 3 where name = 'c2'"),
    without: { from: "and k.partitions = $2", to: "" },
  },
  {
    what: "it has another channel by now",
    act: ({ sql }) =>
      sql("update hark.consumers set channels = channels || 'more'::text where name = 'c2'"),
    without: {
      from: "and (k.channels = m.channels or hark.as_set(k.channels) = hark.as_set(m.channels))",
      to: "",
    },
  },
  {
    what: "it holds a partition that there is not",
    act: (_, third) => {
      third.held.push(7);
      third.epochs.push(1);
      return Promise.resolve();
    },
    without: {
      from: "and cardinality(m.held) = (",
      to: "and 0 < (",
    },
  },
];

for (const { what, act, without } of refused) {
  test(`a page in common is not for one of which ${what}`, async (context) => {
    const all = await members(context);
    await act(context, all[2]!);
    const [row] = await routes(context, all);
    assert.equal(row.routes, "110111");
    assert.deepEqual(
      row.channels.toSorted(),
      ["a0", "a1", "a3", "a4", "a5", "b0", "b1", "b3", "b4", "b5"],
    );
    await replaceIn(context.url, { ...without, in: "hark.common_window", rule: what });
    assert.equal((await routes(context, all))[0].routes, "111111", "the check is needed");
  });
}

test("a page in common is not for one that is removed, and not there if it is for none", async (context) => {
  const all = await members(context);
  await context.sql("select hark.remove_consumer('c2')");
  const [row] = await routes(context, all);
  assert.equal(row.routes, "110111");
  assert.equal(row.here, true, "where nothing is new, the window ends at the mark that is seen");
  all[0]!.channels.reverse();
  assert.equal((await routes(context, all))[0].routes, "110111", "in any order");
  assert.deepEqual(await routes(context, all, 5), []);
  assert.deepEqual(await routes(context, []), []);
});

test("who keeps a small share of pages in common keeps nothing else of them in memory", {
  timeout: 120_000,
}, async (context) => {
  const all = await members(context);
  const seen = await cut(await context.client());
  // A page of 900 KB, of which the last consumer has some bytes.
  await context.sql(
    `select hark.notify('a' || n, to_jsonb(case n when 5 then repeat('small', 4) else repeat(md5(n::text), 5600) end))
     from generate_series(0, 5) n`,
  );
  // A process whose heap ends at 64 MB.
  await using child = spawnDeno([
    "tests/windows/_support/common_pages.ts",
    context.url,
    JSON.stringify(all),
    seen,
    "100",
  ], { permissions: ["-P=test", "--v8-flags=--max-old-space-size=64"] });
  await child.line(/^kept 100 of 1$/, { deadline: 90_000 });
});
