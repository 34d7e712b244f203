import assert from "node:assert/strict";
import { cleanup, connect, Consumer } from "../../mod.ts";
import { test } from "../harness/mod.ts";
import { jsonOutput, oneByOne, output, refused } from "./_support/hark.ts";

/** Three old notifications, the third of which "reader" has not handled, and a new one. */
async function publishOldOnes(url: string, sql: (text: string) => Promise<unknown>) {
  await using db = await connect(url);
  await sql("select hark.notify('orders') from generate_series(1, 2)");
  await new Consumer(db, { id: "reader", channels: "orders", handle() {} }).drain();
  await sql("select hark.notify('orders')");
  await sql("update hark.log set created_at = created_at - interval '10 days'");
  await sql("select hark.notify('orders')");
}

const left = "select array_agg(id::int order by id) as ids from hark.log";

test("cleanup removes what is old, keeps what is unread, and says for whom", async ({ url, sql }) => {
  await publishOldOnes(url, sql);
  const dry = await output(["cleanup", "--older-than", "1d", "--dry-run"], { url });
  assert.match(dry, /^published before +\d{4}-.*Z\nwould remove +2 notifications, \d+ B\n/);
  assert.match(dry, /^kept +1 notification that not every consumer had passed$/m);
  assert.match(
    dry,
    /^reader +10 days ago +\d{4}-.* its position has not passed it, no worker serves it$/m,
  );
  assert.match(dry, /hark consumers remove reader\n.*--force/);
  assert.deepEqual((await sql(left))[0].ids, [1, 2, 3, 4]);
  const dryJson = await jsonOutput(["cleanup", "--older-than", "1d", "--dry-run"], { url });
  assert.deepEqual([dryJson.wouldRemove, dryJson.removed, dryJson.dryRun], [2, undefined, true]);

  const done = await jsonOutput(["cleanup", "--older-than", "1d", "--batch", "1"], { url });
  assert.deepEqual([done.removed, done.kept, done.complete, done.dryRun], [2, 1, true, false]);
  assert.equal(done.keptFor[0].consumer, "reader");
  assert.deepEqual((await sql(left))[0].ids, [3, 4]);

  assert.match(
    await output(["cleanup", "--older-than", "1d", "--force"], { url }),
    /^removed +1 /m,
  );
  assert.match(
    await output(["cleanup", "--older-than", "0d"], { url }),
    /^removed +0 .*\nkept +1 /m,
  );
  assert.match(
    await output(["cleanup", "--older-than", "0d", "--force"], { url }),
    /^removed +1 /m,
  );
  assert.equal((await sql(left))[0].ids, null);
});

test("cleanup --force keeps what waits for a retry, and says how to give it up", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await sql("select hark.notify('orders') from generate_series(1, 2)");
  await new Consumer(db, {
    id: "billing",
    channels: "orders",
    retry: { initial: "1h", maximum: "1h" },
    handle({ id }) {
      if (id === 1) throw new Error("not yet");
    },
  }).drain();
  const forced = await output(["cleanup", "--older-than", "0d", "--force"], { url });
  assert.match(forced, /^removed +1 /m);
  assert.match(forced, /^kept +1 notification that waits for a retry or a replay$/m);
  assert.match(forced, /--force too.*: hark discard billing --all --waiting$/m);
  assert.doesNotMatch(forced, /add --force|not every consumer/);
  await output(["discard", "billing", "--all", "--waiting"], { url });
  await output(["cleanup", "--older-than", "0d"], { url });
  assert.equal((await sql(left))[0].ids, null);
});

test("cleanup() reports its progress and ends when told to", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await sql("select hark.notify('a') from generate_series(1, 25)");
  const progress: number[] = [];
  const stop = new AbortController();
  const result = await cleanup(db, {
    olderThan: new Date(Date.now() + 60_000),
    batch: 10,
    signal: stop.signal,
    onProgress({ removed }) {
      progress.push(removed);
      if (removed === 20) stop.abort();
    },
  });
  assert.deepEqual(progress, [10, 20]);
  assert.deepEqual([result.removed, result.complete, result.keptFor], [20, false, []]);
  for (const olderThan of [-1, NaN, Infinity, "1", new Date(NaN)]) {
    await assert.rejects(cleanup(db, { olderThan: olderThan as number }), { code: "BAD_OPTION" });
  }
});

test("cleanup removes consumers that no worker runs any more, where that is asked, and names them", async ({ url, sql }) => {
  await sql("select hark.register('gone', array['orders'])");
  await sql("select hark.register('new', array['orders'])");
  await sql(
    "update hark.consumers set created_at = now() - interval '100 days' where name = 'gone'",
  );
  const drop = ["cleanup", "--older-than", "30d", "--drop-inactive", "90d"];
  assert.match(
    await output([...drop, "--dry-run"], { url }),
    /^would remove consumer +last served\ngone +100 days ago\n\n.*\nwould remove +0 notifications/,
  );
  const dry = await jsonOutput([...drop, "--dry-run"], { url });
  assert.deepEqual([dry.wouldDrop[0].consumer, dry.dropped], ["gone", undefined]);
  const done = await jsonOutput(drop, { url });
  assert.deepEqual(done.dropped.map(({ consumer }: { consumer: string }) => consumer), ["gone"]);
  assert.deepEqual(await sql("select name from hark.consumers"), [{ name: "new" }]);
  assert.match(await output(drop, { url }), /^removed +0 notifications/m);
});

test("cleanup refuses what it does not understand", async ({ url }) => {
  await oneByOne<[string[], RegExp]>([
    [[], /--older-than/],
    [["--older-than", "-1d"], /--older-than is "-1d"/],
    [["--older-than", "week"], /--older-than is "week"/],
    [
      ["--older-than", "30"],
      /--older-than is "30"\. Give 250ms,[^]*A\s+number\s+needs\s+its\s+unit/,
    ],
    [["--older-than", "100001d"], /at\s+most\s+100000d/],
    [["--older-than", "1d", "--batch", "0"], /N is "0"/],
    [["--older-than", "1d", "--drop-inactive", "-1d"], /--drop-inactive is "-1d"/],
  ], async ([args, sentence]) => await refused(["cleanup", ...args], 2, sentence, { url }));
});
