import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { odd } from "../operate/_support/by_hand.ts";
import { jsonOutput, oneByOne, output, refused } from "./_support/hark.ts";

const fill = `insert into hark.dead (consumer, id, channel, key, payload, attempts, error, died_at)
  select 'billing', n, 'orders', $1, to_jsonb(n), 20, 'out of ' || case when n > 3 then 'ink' else 'paper' end,
    now() - n * interval '1 day' from generate_series(1, 5) n`;

test("dead letters are listed, retried and discarded: one, some and all", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'])");
  assert.equal(await output(["dead", "list"], { url }), "no dead letter\n");
  await sql(fill, [odd]);
  const text = await output(["dead", "list", "billing", "--limit", "2"], { url });
  assert.match(text, /^consumer +id +channel +key +attempts +given up +error$/m);
  assert.match(text, /^billing +1 +orders +it's "odd" .* +20 +24 h ago +out of paper$/m);
  assert.match(
    text,
    /^These are the first 2\. For more of "billing": hark dead list billing --after-id 2$/m,
  );
  const list = await jsonOutput(["dead", "list", "--error", "ink"], { url });
  assert.deepEqual(list.map(({ id, payload }: { id: number; payload: number }) => [id, payload]), [
    [4, 4],
    [5, 5],
  ]);
  assert.deepEqual(
    (await jsonOutput(["dead", "list", "billing", "2", "3", "--key", odd], { url })).length,
    2,
  );
  const text1 = await output(["dead", "retry", "billing", "1", "2"], { url });
  assert.equal(text1, '2 dead letters of "billing" will be handled again\n');
  const old = new Date(Date.now() - 4.5 * 86_400_000).toISOString();
  const ago = ["dead", "discard", "billing", "--before", old];
  assert.deepEqual(await jsonOutput(ago, { url }), { consumer: "billing", discarded: 1 });
  assert.deepEqual(await jsonOutput(["dead", "retry", "billing", "--error", "ink"], { url }), {
    consumer: "billing",
    retried: 1,
  });
  assert.match(await output(["dead", "discard", "billing", "--all"], { url }), /^1 dead letter of/);
  assert.deepEqual((await sql("select id::int from hark.waiting order by id")).map((r) => r.id), [
    ...[1, 2, 4],
  ]);
});

test("hark dead refuses what it does not understand, and to guess which are meant", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'])");
  await oneByOne<[string[], RegExp]>([
    [[], /one more word: list, retry or discard/],
    [["lsit"], /does not take lsit[^]*Did you mean `list`/],
    [["retry"], /CONSUMER/],
    [["retry", "billing"], /does not know which dead letters.*--all/],
    [["discard", "billing"], /does not know which dead letters.*--all/],
    [["discard", "billing", "5", "--all"], /contradict/],
    [["discard", "billing", "five"], /ID is "five"/],
    [["retry", "billing", "0"], /ID is "0"/],
    [["retry", "billing", "--before", "yesterday"], /TIME is "yesterday"/],
    [["retry", "nobody", "--all"], /no consumer "nobody"/],
    [["list", "nobody"], /no consumer "nobody"/],
    [["list", "--after-id", "5"], /Name the consumer/],
    [["list", "billing", "--limit", "0"], /N is "0"/],
    [["list", "billing", "--channel", ""], /has no characters/],
  ], async ([args, sentence]) => await refused(["dead", ...args], 2, sentence, { url }));
});

test("an error of others cannot steer the terminal", async ({ url, sql }) => {
  await sql("select hark.register('r', array['c'])");
  await sql(`insert into hark.dead (consumer, id, channel, attempts, error)
    values ('r', 1, E'\\x1b[2J', 1, E'bad\\x1b[31m\\nhark: all is well')`);
  const text = await output(["dead", "list"], { url });
  // deno-lint-ignore no-control-regex -- control characters are what it is about
  assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  assert.equal(text.trim().split("\n").length, 2);
});
