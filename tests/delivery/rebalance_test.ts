import assert from "node:assert/strict";
import { test, type TestContext, until } from "../harness/mod.ts";
import { logged, sentence } from "../faults/_support/logs.ts";
import { Crew } from "./_support/crew.ts";
import { assertRight, judge, type Published } from "./_support/ledger.ts";
import { committed, Publishers, publishersSql } from "./_support/publishers.ts";

const options = { partitions: 4, concurrency: 4, retry: { initial: 20, maximum: 200 } };

/** Publishers at a rate that workers in this process keep up with. */
function publishers(context: TestContext, channelOf: () => string = () => "c"): Publishers {
  return new Publishers(context.url, { publishers: 2, pause: 30, channelOf });
}

/** Waits until all that is wanted was handled, and judges; ids are of one worker at a time. */
async function finish(
  crew: Crew,
  published: readonly Published[],
  wanted: readonly Published[] = published,
): Promise<number> {
  await until(() => wanted.every(({ token }) => crew.handled.has(token)), { deadline: 20_000 })
    .catch(() => {}); // the verdict below says it better
  const verdict = judge(published, crew.entries);
  const missing = wanted.filter(({ token }) => !crew.handled.has(token));
  assertRight("c", { ...verdict, missing });
  return verdict.repeats;
}

/** Fails where two workers were at notifications of one key at a time. */
function assertNoneBeside(crew: Crew, published: readonly Published[]): void {
  const one = crew.entries.map((entry) => ({ ...entry, worker: 0 }));
  assertRight("workers together", { ...judge(published, one), missing: [] });
}

test("workers come and go: each has its fair share within seconds, and none handles what another has", async (context) => {
  await context.sql(publishersSql);
  await using crew = new Crew(context, options);
  await using load = publishers(context);
  const first = await crew.join();
  await crew.fair(1);
  const second = await crew.join();
  await crew.fair(2);
  await crew.join();
  await crew.fair(3);
  await crew.leave(first);
  await crew.fair(2);
  await Promise.all([crew.join(), crew.join(), crew.join()]);
  await crew.fair(5); // of which four have one each
  await crew.leave(second);
  await crew.fair(4);
  while (crew.hands.length > 1) await crew.leave(crew.hands[0]!);
  await crew.fair(1);
  await load.stop();
  const published = await committed(context);
  assert.equal(
    await finish(crew, published),
    0,
    "no worker was taken over from, so nothing is repeated",
  );
  assertNoneBeside(crew, published);
});

test("the number of partitions changes under load: nothing is lost, each key stays in order", async (context) => {
  await context.sql(publishersSql);
  await using crew = new Crew(context, options, 0.02);
  await using load = publishers(context);
  await Promise.all([crew.join(), crew.join()]);
  await crew.fair(2);
  for (const partitions of [7, 2, 1, 5]) {
    await until(() => crew.handled.size > 20, { what: "load" });
    const before = crew.handled.size;
    await context.sql("select hark.repartition('c', $1)", [partitions]);
    await until(async () => {
      const [row] = await context.sql(
        `select partitions, next_partitions, (select count(*)::int from hark.partitions) as count
          from hark.consumers`,
      );
      return row.partitions === partitions && row.next_partitions === null &&
        row.count === partitions;
    }, { deadline: 10_000, what: `${partitions} partitions` });
    await crew.fair(2);
    await until(() => crew.handled.size > before + 20, { what: "work to go on" });
  }
  await load.stop();
  const published = await committed(context);
  assert.equal(await finish(crew, published), 0, "and nothing is repeated");
  assertNoneBeside(crew, published);
});

test("workers that read one channel more are rolled out: nothing of either channel is lost", async (context) => {
  await context.sql(publishersSql);
  let turn = 0;
  await using crew = new Crew(context, options);
  await using load = new Publishers(context.url, {
    publishers: 2,
    pause: 30,
    channelOf: (key) => Number(key?.slice(1) ?? turn++) % 2 === 0 ? "c" : "d",
  });
  const old = [await crew.join({ channels: "c" }), await crew.join({ channels: "c" })];
  await crew.fair(2);
  await until(() => crew.handled.size > 30);
  const since = Date.now();
  await crew.join({ channels: ["c", "d"], version: 1 });
  await crew.fair(1); // the old ones may not move what they do not know about
  const before = new Set((await committed(context)).map(({ token }) => token));
  await standsBy(since);
  await crew.join({ channels: ["c", "d"], version: 1 });
  await crew.fair(2);
  for (const hand of old) await crew.leave(hand);
  await load.stop();
  const published = await committed(context);
  const wanted = published.filter((p) => p.channel === "c" || !before.has(p.token));
  await finish(crew, published, wanted);
});

test("workers with another filter are rolled out: nothing that either wants is lost", async (context) => {
  await context.sql(publishersSql);
  await using crew = new Crew(context, options);
  await using load = publishers(context);
  const even = { payload: { even: true } };
  const old = [await crew.join({ filter: even }), await crew.join({ filter: even })];
  await crew.fair(2);
  await until(() => crew.handled.size > 30);
  const since = Date.now();
  await crew.join({ version: 1 });
  await crew.fair(1);
  const before = new Set((await committed(context)).map(({ token }) => token));
  await standsBy(since);
  for (const hand of old) await crew.leave(hand);
  await crew.fair(1);
  await load.stop();
  const published = await committed(context);
  const wanted = published.filter((p) => p.version % 2 === 0 || !before.has(p.token));
  await until(() => wanted.every(({ token }) => crew.handled.has(token))).catch(() => {});
  const missing = wanted.filter(({ token }) => !crew.handled.has(token));
  const numbersOfOld = new Set(old.map(({ number }) => number));
  // Apart: what only the new ones want may come after what the old ones had handled and not stored.
  for (const isOld of [true, false]) {
    const entries = crew.entries.filter((entry) => numbersOfOld.has(entry.worker) === isOld);
    assertRight("c", { ...judge(published, entries), missing });
  }
});

/** Waits until an old worker has said that it stands by. */
async function standsBy(since: number): Promise<void> {
  await until(
    () =>
      logged.items.some((record) =>
        record.timestamp >= since && record.level !== "debug" &&
        /stand(s|ing) by|outdated|other options|another version/i.test(sentence(record))
      ),
    { deadline: 10_000, what: "a log record of an old worker that stands by" },
  );
}
