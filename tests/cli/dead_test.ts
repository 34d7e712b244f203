import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { odd } from "../operate/_support/by_hand.ts";
import { jsonOutput, oneByOne, output, ran, refused } from "./_support/hark.ts";

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
  const text1 = await output(["retry", "billing", "1", "2"], { url });
  assert.equal(
    text1,
    '2 notifications of "billing" will be tried as soon as a worker runs: none does now\n',
  );
  const old = new Date(Date.now() - 4.5 * 86_400_000).toISOString();
  const ago = ["discard", "billing", "--before", old];
  assert.deepEqual(await jsonOutput(ago, { url }), { consumer: "billing", discarded: 1 });
  assert.deepEqual(await jsonOutput(["retry", "billing", "--error", "ink"], { url }), {
    consumer: "billing",
    retried: 1,
  });
  assert.match(
    await output(["discard", "billing", "--all", "--dead"], { url }),
    /^1 notif.* is given/,
  );
  assert.deepEqual((await sql("select id::int from hark.waiting order by id")).map((r) => r.id), [
    ...[1, 2, 4],
  ]);
});

test("dead list cuts a long error, and says where it is whole", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'])");
  await sql(fill, [odd]);
  assert.doesNotMatch(await output(["dead", "list"], { url }), /whole error/);
  await sql("update hark.dead set error = repeat('paper ', 40) || 'jam' where id = 3");
  const text = await output(["dead", "list"], { url });
  assert.match(text, /paper p…$/m);
  assert.match(text, /^A whole error: hark log show 3$/m);
  assert.match(await output(["log", "show", "3"], { url }), /(paper ){40}jam$/m);
  // What --error takes is not cut.
  assert.match(await output(["dead", "groups"], { url }), /(paper ){33}pa$/m);
});

test("dead, retry and discard refuse what they do not understand, and to guess which are meant", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'])");
  await oneByOne<[string[], RegExp]>([
    [["dead"], /one more word: list/],
    [["dead", "lsit"], /does not take lsit[^]*Did you mean `list`/],
    [["retry"], /CONSUMER/],
    [["retry", "billing"], /does not know which notifications.*--all/],
    [["discard", "billing"], /does not know which notifications.*--all/],
    [["retry", "billing", "--dead"], /does not know which notifications.*--all/],
    [["discard", "billing", "5", "--all"], /contradict/],
    [["discard", "billing", "--all", "--dead", "--waiting"], /contradict/],
    [["retry", "billing", "--waiting", "--before", "2026-01-01"], /contradict/],
    [["discard", "billing", "five"], /ID is "five"/],
    [["retry", "billing", "0"], /ID is "0"/],
    [["retry", "billing", "--before", "yesterday"], /TIME is "yesterday"/],
    [["retry", "billing", "--before", "300000000h"], /TIME is "300000000h"\. Give a time such as/],
    [["retry", "unknown", "--all"], /no consumer "unknown"/],
    [["dead", "list", "unknown"], /no consumer "unknown"/],
    [["dead", "list", "--after-id", "5"], /Name the consumer/],
    [["dead", "list", "billing", "--limit", "0"], /N is "0"/],
    [["dead", "list", "billing", "--channel", ""], /has no characters/],
    [["dead", "list", "billing", "--error", ""], /error is ""\. Give text that is not empty/],
    [["discard", "billing", "--error", ""], /error is ""\. Give text that is not empty/],
    [["retry", "billing", "--error", ""], /error is ""\. Give text that is not empty/],
  ], async ([args, sentence]) => await refused(args, 2, sentence, { url }));
  await refused(
    ["dead", "retry", "billing", "5", "--key", "a b"],
    2,
    /: hark retry billing 5 --key 'a b'$/m,
  );
  await refused(["dead", "discard", "billing", "--all"], 2, /: hark discard billing --all$/m);
});

test("an error of others cannot steer the terminal", async ({ url, sql }) => {
  await sql("select hark.register('r', array['c'])");
  await sql(`insert into hark.dead (consumer, id, channel, attempts, error)
    values ('r', 1, E'\\x1b[2J', 1, E'bad\\x1b[31m\\nhark: all is well')`);
  const text = await output(["dead", "list"], { url });
  // deno-lint-ignore no-control-regex -- control characters are what it is about
  assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  assert.match(text, /^\S.*\n\S.*\n\nA whole error: hark log show \d+\n$/);
});

test("hark retry and hark discard take what waits, and say what they leave and why", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'])");
  await sql(
    `select hark.notify(case n when 2 then 'mail' else 'orders' end) from generate_series(1, 3) n`,
  );
  await sql(
    `insert into hark.waiting (consumer, id, partition, state, attempts, due_at, last_error, failed_at)
    values ('billing', 1, 0, 'failed', 3, now() + interval '2 hours', 'out of paper', now())`,
  );
  await sql(fill.replace("generate_series(1, 5)", "generate_series(7, 8)"), [odd]);
  const status = await output(["status"], { url });
  assert.match(
    status,
    /^failing +notifications +the first +attempts +last attempt +next attempt +error$/m,
  );
  assert.match(status, /^billing +1 +1 +3 +\d+(\.\d)? s ago +when a worker runs +out of paper$/m);
  await sql(`with p as (insert into hark.processes (id, lease_until)
      values (gen_random_uuid(), now() + interval '1 minute') returning id)
    insert into hark.workers (consumer, owner, process) select 'billing', p.id, p.id from p`);
  const done = await ran(["retry", "billing", "1", "2", "3", "99"], { url });
  assert.equal(done.code, 1);
  assert.equal(done.stdout, '1 notification of "billing" will be tried at once\n');
  assert.match(done.stderr, /notification 2 of "billing" is not of its channels/);
  assert.match(done.stderr, /notification 3 of "billing" is not handled yet/);
  assert.match(done.stderr, /notification 99 of "billing" is not in the log/);
  const [row] = await sql("select due_at <= now() as due, attempts from hark.waiting");
  assert.deepEqual(row, { due: true, attempts: 3 });
  const none = await ran(["retry", "billing", "--error", "no such error"], { url });
  assert.equal(none.stdout, 'nothing of "billing" waits or is dead as asked\n');
  const dead = await ran(["retry", "billing", "1", "--dead"], { url });
  assert.equal(dead.code, 1);
  assert.match(dead.stderr, /1 of "billing" waits for its next attempt.*hark retry billing 1$/m);
  const json = await ran(["discard", "billing", "1", "7", "99", "--json"], { url });
  assert.deepEqual(JSON.parse(json.stdout), {
    consumer: "billing",
    discarded: 2,
    left: [{ id: 99, place: "absent" }],
  });
  await sql("select hark.seek('billing', 'end')");
  await refused(["retry", "billing", "3"], 1, /once more: hark replay billing --from 3 --to 3$/m, {
    url,
  });
  assert.deepEqual(await sql("select id from hark.waiting"), []);
});
