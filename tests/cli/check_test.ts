import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";
import { jsonOutput, oneByOne, output, ran, refused } from "./_support/hark.ts";

test("hark check says nothing but ok while consumers are within limits", async ({ url, sql }) => {
  assert.equal(
    await output(["check", "--max-lag", "5m", "--max-dead", "0"], { url }),
    "ok: 0 consumers\n",
  );
  await sql("select hark.register('billing', array['orders'], 'now')");
  assert.equal(
    await output(["check", "--max-unread", "0", "--max-age", "1s"], { url }),
    "ok: 1 consumer\n",
  );
  assert.deepEqual(await jsonOutput(["check"], { url }), { level: "ok", consumers: 1, causes: [] });
});

test("the exit code tells what was found, also without a reader of the output", async ({ url, sql }) => {
  await sql("select hark.register('mail', array['mail'], 'now')");
  await sql("insert into hark.dead (consumer, id, attempts) values ('mail', 1, 3)");
  const args = ["check", "--max-dead", "0"];
  assert.equal((await ran(args, { url, closed: true })).code, 2);
  assert.equal((await ran([...args, "--json"], { url, closed: true })).code, 2);
});

test("hark check exits 2 with a line for each exceeded limit, and 1 for other signs of trouble", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'], 'beginning')");
  await sql("select hark.register('mail', array['mail'], 'beginning')");
  await sql(`insert into hark.log (channel, payload, created_at)
    select 'orders', '1', now() - interval '10 minutes' from generate_series(1, 5)`);
  await sql("insert into hark.dead (consumer, id, attempts) values ('mail', 1, 3)");
  await sql(
    `insert into hark.waiting (consumer, id, partition, state, attempts, created_at, channel)
    values ('mail', 2, 0, 'retry', 3, now() - interval '2 hours', 'mail')`,
  );
  const unserved = await ran(["check", "billing"], { url });
  assert.equal(unserved.code, 1);
  assert.equal(
    unserved.stdout,
    'warning: "billing": no worker serves it, and it has something to do\n',
  );
  await sql(`with p as (insert into hark.processes (id, lease_until)
      values (gen_random_uuid(), now() + interval '5 minutes') returning id)
    insert into hark.workers (consumer, owner, process) select c.name, p.id, p.id from hark.consumers c, p`);
  await sql(
    `update hark.partitions s set owner = w.owner from hark.workers w where w.consumer = s.consumer`,
  );
  for (
    const [args, code, lines] of [
      [["--max-lag", "5m"], 2, [
        /^critical: "billing": its oldest unread .* 10(\.\d)? min old, more than 5(\.0)? min$/,
      ]],
      [["--max-lag", "1h"], 0, [/^ok: 2 consumers$/]],
      [["--max-unread", "4"], 2, [/^critical: "billing": 5.* unread, more than 4$/]],
      [["--max-unread", "5"], 0, [/^ok/]],
      [["--max-dead", "0"], 2, [/^critical: "mail": 1 dead letter, more than 0$/]],
      [["--max-dead", "1"], 0, [/^ok/]],
      [["--max-waiting", "0"], 2, [/^critical: "mail": 1 waiting, more than 0$/]],
      [["--max-age", "1h"], 2, [/^critical: "mail": its oldest unfinished notification is 2/]],
      [["--max-age", "1h", "billing"], 0, [/^ok: 1 consumer$/]],
      [["--max-unread", "0", "--max-dead", "0"], 2, [/^critical: "billing"/, /^critical: "mail"/]],
    ] as [string[], number, RegExp[]][]
  ) {
    const done = await ran(["check", ...args], { url });
    assert.equal(done.code, code, args.join(" "));
    const found = done.stdout.trim().split("\n");
    assert.equal(found.length, lines.length, done.stdout);
    for (const [i, line] of lines.entries()) assert.match(found[i]!, line);
  }
  const json = JSON.parse((await ran(["check", "--max-dead", "0", "--json"], { url })).stdout);
  assert.deepEqual(json.causes, [{
    level: "critical",
    consumer: "mail",
    what: "dead",
    value: 1,
    limit: 0,
    message: "1 dead letter, more than 0",
  }]);
});

test("hark check tells of delayed notifications that no worker delivers, and refuses what it does not know", async ({ url, sql }) => {
  await sql("select hark.notify_at('c', '1', deliver_at => now() - interval '1 hour')");
  const late = await ran(["check", "--max-lag", "5m"], { url });
  assert.equal(late.code, 2);
  assert.match(
    late.stdout,
    /^critical: a delayed notification is overdue by (60(\.0)? min|1(\.0)? h)/,
  );
  await oneByOne<[string[], RegExp]>([
    [["check", "unknown"], /no consumer "unknown"/],
    [["check", "--max-lag", "5"], /needs its unit/],
    [["check", "--max-dead", "-1"], /N is "-1"|--max-dead/],
  ], async ([args, sentence]) => await refused(args, 2, sentence, { url }));
  await refused(["check"], 3, /postgres:/, { url: "postgres://127.0.0.1:1/none" });
});

test("hark check exits 3 if it could not tell: a backlog is uncounted, or the role lacks a right", async (context) => {
  const { url, sql } = context;
  await sql("select hark.register('billing', array['rare'], 'beginning')");
  await sql("select hark.notify('often')");
  await sql("select setval('hark.log_id_seq', 2000000)");
  await sql("select hark.notify('often')");
  await sql("select hark.pause('billing')"); // so that it does not need a worker
  const uncounted = await ran(["check", "--max-unread", "5"], { url });
  assert.deepEqual([uncounted.code, uncounted.stdout], [
    3,
    'warning: "billing": its backlog is too long to be counted\n',
  ]);
  await sql("select hark.register('mail', array['often'], 'beginning')");
  assert.equal((await ran(["check", "--max-unread", "5"], { url })).code, 1);
  const { url: weak } = await role(context);
  await refused(["check"], 3, /permission denied/, { url: weak });
});
