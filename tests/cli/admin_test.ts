import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { odd } from "../operate/_support/by_hand.ts";
import { jsonOutput, oneByOne, output, refused } from "./_support/hark.ts";

test("a consumer is moved, replayed, paused and resumed from the shell", async ({ url, sql }) => {
  await sql("select hark.register($1, array['c', 'd'])", [odd]);
  await sql("select hark.notify('c') from generate_series(1, 10)");
  const unread = async () => (await sql("select unread::int from hark.status()"))[0].unread;
  assert.match(
    await output(["seek", odd, "now"], { url }),
    /begins at the end, now; about 10 are skipped$/m,
  );
  assert.equal(await unread(), 0);
  assert.match(await output(["seek", odd, "4"], { url }), /begins at id 4; about 7 come again$/m);
  assert.equal(await unread(), 7);
  await output(["seek", odd, "2020-01-01T00:00:00Z"], { url });
  assert.equal(await unread(), 10);
  await sql(
    "insert into hark.waiting (consumer, id, partition, state, attempts) values ($1, 1, 0, 'failed', 1)",
    [odd],
  );
  const sought = await jsonOutput(["seek", odd, "8"], { url });
  assert.deepEqual(sought, { consumer: odd, to: { id: 8 }, givenUp: 1, again: 0, skipped: 7 });

  assert.match(
    await output(["replay", odd, "--from", "1", "--to", "5"], { url }),
    /^5 notifications of .* come again when a worker next looks, as replay 1; to see /,
  );
  const since = ["replay", odd, "--from", "2020-01-01", "--channel", "c", "--channel", "d"];
  assert.deepEqual(await jsonOutput(since, { url }), {
    consumer: odd,
    replay: 2,
    count: 10,
    capped: false,
  });
  const [, second] = await sql("select channels, next_id::int, to_id::int from hark.replays");
  assert.deepEqual(second, { channels: ["c", "d"], next_id: 1, to_id: 10 });
  const recent = await jsonOutput(["replay", odd, "--from", "2h", "--dry-run"], { url });
  assert.equal(recent.again + recent.unread, 10, "of the last two hours");
  const never = ["replay", odd, "--from", "2020-01-01", "--to", "2020-01-02"];
  assert.match(await output(never, { url }), /^the log has nothing in that range/);

  assert.match(await output(["pause", odd], { url }), /is paused$/m);
  assert.deepEqual(await jsonOutput(["pause", odd], { url }), { consumer: odd, changed: false });
  assert.match(await output(["status"], { url }), /^it's .* paused, no worker /m);
  assert.deepEqual(await jsonOutput(["resume", odd], { url }), { consumer: odd, changed: true });
  assert.match(await output(["resume", odd], { url }), /was not paused$/m);
});

test("consumers are listed, shown, divided and removed from the shell", async ({ url, sql }) => {
  assert.equal(await output(["consumers", "list"], { url }), "no consumer is registered\n");
  await sql("select hark.register('billing', array['orders'], transactional => true)");
  await sql('select hark.register($1, array[$1], filter => \'{"key": ["k"]}\')', [odd]);
  await sql("select hark.notify('orders') from generate_series(1, 3)");
  assert.match(
    await output(["consumers", "partitions", "billing", "4"], { url }),
    /^"billing" has 4 partitions$/m,
  );
  await sql(`insert into hark.waiting (consumer, id, partition, key, state, attempts, last_error)
    values ('billing', 1, 2, 'k', 'failed', 3, E'out of paper\nand ink')`);
  await sql(
    `with p as (insert into hark.processes (id, lease_until) values ($1, now() + interval '1 hour') returning id)
    insert into hark.workers (consumer, owner, process) select 'billing', p.id, p.id from p`,
    ["00000000-0000-0000-0000-000000000001"],
  );
  const list = await output(["consumers", "list"], { url });
  assert.match(list, /^billing +orders +4 partitions, transactional +1 +3 +1 +0 +now$/m);
  assert.match(list, /^it's .* filtered +0 +0 +0 +0 +never$/m);
  const show = await output(["consumers", "show", "billing"], { url });
  assert.match(show, /^consumer +billing\nchannels +orders\nkind +4 partitions, transactional\n/);
  assert.match(
    show,
    /^registered +\d.* ago\nhandled +0\nunread +3\nwaiting +1\ndead letters +0\n/m,
  );
  assert.match(show, /^ +2 +\d +1 +no worker +0 +never +failing$/m);
  assert.match(show, /^00000000 +yes +.* none +polling$/m);
  assert.match(show, /^waiting +state +attempts +next attempt +key +error$/m);
  assert.match(show, /^ +1 +failed +3 +now +k +out of paper\n +and ink$/m);
  const json = await jsonOutput(["consumers", "show", "billing"], { url });
  assert.deepEqual([json.heads[0].id, json.partitionList.length, json.workers], [1, 4, 1]);
  assert.equal((await jsonOutput(["consumers", "list"], { url })).length, 2);

  await refused(
    ["consumers", "remove", odd],
    2,
    /this removes .* with 0 unread, 0 waiting and 0 dead letters.*--yes/,
    { url },
  );
  assert.deepEqual(await jsonOutput(["consumers", "remove", odd, "--yes"], { url }), {
    consumer: odd,
    removed: true,
  });
  assert.equal((await sql("select count(*)::int as n from hark.consumers"))[0].n, 1);
});

test("wrong arguments are refused, with what would be right", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'])");
  await oneByOne<[string[], RegExp]>([
    [["seek"], /CONSUMER/],
    [["seek", "billing"], /TO/],
    [["seek", "billing", "yesterday"], /TO is "yesterday"[^]*beginning/],
    [["seek", "billing", "0"], /TO is "0"/],
    [["seek", "billing", "2026-02-30"], /TO is "2026-02-30"/],
    [["seek", "billing", "7"], /cannot start at id 7/],
    [["seek", "unknown", "now"], /no consumer "unknown"/],
    [["replay", "billing"], /--from/],
    [["replay", "billing", "--from", "now"], /PLACE is "now"/],
    [["replay", "billing", "--from", "1"], /cannot begin at id 1/],
    [["replay", "unknown", "--from", "1"], /no consumer "unknown"/],
    [["pause"], /CONSUMER/],
    [["pause", "unknown"], /no consumer "unknown"/],
    [["resume", ""], /CONSUMER|no id/],
    [["consumers"], /one more word: list, show, remove or partitions/],
    [["consumers", "shwo", "billing"], /Did you mean `show`/],
    [["consumers", "show", "unknown"], /no consumer "unknown".*"billing"/],
    [["consumers", "remove", "unknown", "--yes"], /no consumer "unknown"/],
    [["consumers", "partitions", "billing", "0"], /from 1 to 1024/],
    [["consumers", "partitions", "unknown", "2"], /no consumer "unknown"/],
  ], async ([args, sentence]) => await refused(args, 2, sentence, { url }));
});

test("without the schema each says so", { schema: false }, async ({ url }) => {
  await oneByOne([
    ["seek", "r", "now"],
    ["replay", "r", "--from", "1"],
    ["pause", "r"],
    ["resume", "r"],
    ["dead", "list"],
    ["retry", "r", "--all"],
    ["consumers", "list"],
    ["consumers", "remove", "r", "--yes"],
  ], async (args) => await refused(args, 4, /hark init/, { url }));
});
