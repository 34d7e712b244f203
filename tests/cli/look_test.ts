import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { visits } from "../dashboard/_support/visit.ts";
import { test } from "../harness/mod.ts";
import { jsonOutput, oneByOne, output, ran, refused } from "./_support/hark.ts";

const fill = `select hark.notify(case when n % 2 = 0 then 'mail' else 'orders' end,
  jsonb_build_object('n', n), case when n % 3 = 0 then 'ada' else 'bob' end) from generate_series(1, 6) n`;

test("hark log list shows the newest, filters, and says how to go on", async ({ url, sql }) => {
  assert.equal(await output(["log", "list"], { url }), "no notification matches\n");
  await sql(fill);
  const text = await output(["log", "list", "--limit", "2"], { url });
  assert.match(text, /^id +channel +key +published +size +payload$/m);
  assert.match(text, /^ *6 +mail +ada +\S+Z +\d+ B +\{"n":6\}$/m);
  assert.match(text, /^To go on: add --before 5$/m);
  const ids = async (...args: string[]) =>
    (await jsonOutput(["log", "list", ...args], { url })).notifications
      .map(({ id }: { id: number }) => id);
  assert.deepEqual(await ids("--before", "5", "--limit", "2"), [4, 3]);
  assert.deepEqual(await ids("orders", "--key", "bob", "--oldest-first"), [1, 5]);
  assert.deepEqual(await ids("--contains", '{"n":4}'), [4]);
  assert.deepEqual(await ids("--search", '"n": 2', "--from", "2", "--to", "2"), [2]);
  const none = await output(["log", "list", "nowhere", "--scan", "2"], { url });
  assert.match(none, /^Looked at 2 notifications, through id 5\. To go on: add --before 5$/m);
  const page = await jsonOutput(["log", "list", "nowhere", "--scan", "2"], { url });
  assert.deepEqual([page.looked, page.lookedThrough, page.more], [2, 5, true]);
});

test("a time without an offset is UTC, on each machine and in the dashboard", async ({ url, sql, use }) => {
  await sql("select hark.notify('orders') from generate_series(1, 2)");
  await sql(
    `update hark.log set created_at = timestamptz '2026-11-21 09:30Z' + (id - 1) * interval '1 hour'`,
  );
  for (const TZ of ["America/New_York", "Asia/Tokyo"]) {
    const args = ["log", "list", "--from", "2026-11-21T10:00"];
    const found = await jsonOutput(args, { url, env: { TZ } });
    assert.deepEqual(found.notifications.map(({ id }: { id: number }) => id), [2], TZ);
  }
  const db = use(await connect(url));
  const { get } = visits(db, { authorize: () => ({ name: "ada", role: "operate" }) });
  const { text } = await get("/log?from=2026-11-21T10:00");
  assert.match(text, /hark log list --from 2026-11-21T10:00:00\.000Z/);
  assert.match(text, /notification\?id=2"/);
  assert.doesNotMatch(text, /notification\?id=1"/);
});

test("commands print numbers with all their digits, and find them by these", async ({ url, sql }) => {
  const n = "12345678901234567891";
  await sql("select hark.register('billing', array['c'], 'beginning')");
  await sql("select hark.notify('c', $1::jsonb, headers => $1::jsonb)", [`{"n": ${n}}`]);
  await sql("select hark.notify_at('c', $1::jsonb, deliver_at => now() + interval '1 day')", [
    `{"n": ${n}}`,
  ]);
  await sql(
    `insert into hark.dead (consumer, id, channel, payload, attempts, died_at)
    select 'billing', id, channel, payload, 1, now() from hark.log`,
  );
  await sql("select hark.schedule('s', '0 8 * * *', 'UTC', now(), 'c', $1::jsonb)", [
    `{"n": ${n}}`,
  ]);
  for (const command of ["log list", "log show 1", "dead list", "delayed list", "schedule list"]) {
    const text = await output([...command.split(" "), "--json"], { url });
    assert.ok(text.includes(`:${n}`) || text.includes(`: ${n}`), `${command}: ${text}`);
  }
  const found = await jsonOutput(["log", "list", "--contains", `{"n":${n}}`], { url });
  assert.equal(found.notifications.length, 1);
});

test("hark log show tells what became of a notification", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'], 'beginning')");
  await sql("select hark.register('mailer', array['mail'], 'beginning')");
  await sql(fill);
  await sql(
    `insert into hark.waiting (consumer, id, partition, state, attempts, due_at, last_error, failed_at)
    values ('billing', 1, 0, 'failed', 3, now() + interval '2 hours', E'out of\\npaper', now())`,
  );
  const text = await output(["log", "show", "1"], { url });
  assert.match(text, /^payload +\{$/m);
  assert.match(
    text,
    /^billing +waiting \(failed\) +3 +when a worker runs +\S+ \w+ ago +out of paper$/m,
  );
  assert.match(text, /^error of "billing" +out of\n +paper$/m);
  await sql("update hark.waiting set last_error = repeat('paper ', 40) || 'jam'");
  assert.match(
    await output(["log", "show", "1"], { url }),
    /^error of "billing" +(paper ){40}jam$/m,
  );
  assert.match(text, /^mailer +foreign +- +- +- +-$/m);
  const json = await jsonOutput(["log", "show", "3"], { url });
  assert.equal(json.consumers[0].verdict, "unread");
  await refused(["log", "show", "99"], 1, /99 is not in the log/, { url });
});

test("hark log channels counts what was published, and says which channels no consumer reads", async ({ url, sql }) => {
  assert.equal(await output(["log", "channels"], { url }), "nothing was published in that time\n");
  await sql("select hark.register('billing', array['orders', 'stock'])");
  await sql(fill);
  await sql("select hark.notify('orders')");
  await sql(
    "insert into hark.log (channel, payload, created_at) values ('orders', '1', now() - interval '3 days')",
  );
  const text = await output(["log", "channels"], { url });
  assert.match(text, /^channel +notifications +size +first +last +consumers$/m);
  assert.match(text, /^orders +4 +\d+ B +\S+ \w+ ago +\S+ \w+ ago +1$/m);
  assert.match(text, /^mail +3 +\d+ B +.* none reads it$/m);
  const all = await jsonOutput(["log", "channels", "--since", "9d"], { url });
  assert.deepEqual(
    all.channels.map((c: Record<string, unknown>) => [c.channel, c.notifications, c.consumers]),
    [["orders", 5, 1], ["mail", 3, 0]],
  );
  assert.deepEqual([all.looked, all.lookedThrough, all.more], [8, 1, false]);
  const part = await output(["log", "channels", "--scan", "3"], { url });
  assert.match(part, /^Looked at 3 notifications, through id 6\.$/m);
});

test("hark log delete deletes what was chosen, and hark log deletions says who, when and why", async ({ url, sql }) => {
  await sql(fill);
  const text = await output(["log", "delete", "--key", "ada", "--reason", "ticket 1"], { url });
  assert.equal(text, "2 notifications deleted from the log; recorded as deletion 1\n");
  const done = await jsonOutput(["log", "delete", "1", "2", "--reason", "a mistake"], { url });
  assert.deepEqual(done, { deletion: 2, log: 2, waiting: 0, dead: 0, delayed: 0 });
  assert.deepEqual((await sql("select id::int from hark.log order by 1")).map((r) => r.id), [4, 5]);
  const list = await output(["log", "deletions"], { url });
  assert.match(list, /^ *2 +\S+Z +\w+ +ids +2 +0 +0 +0 +a mistake$/m);
  assert.match(list, /^ *1 +\S+Z +\w+ +key +2 +0 +0 +0 +ticket 1$/m);
  await oneByOne<[string[], RegExp]>([
    [["log", "delete", "--reason", "x"], /does not know which notifications/],
    [["log", "delete", "1", "--key", "a", "--reason", "x"], /contradict/],
    [["log", "delete", "1"], /--reason[^]*^Try: hark log delete --help$/m],
    [["log", "list", "--nope"], /^Try: hark log list --help$/m],
    [["log", "nope"], /^Try: hark log --help$/m],
    [["log", "list", "--contains", "{"], /JSON is "\{"/],
    [["log", "list", "--from", "yesterday"], /PLACE is "yesterday"/],
    [["log"], /one more word: list, show, channels, delete or deletions/],
  ], async ([args, sentence]) => await refused(args, 2, sentence, { url }));
});

test("hark delayed lists what is not due, and cancels it", async ({ url, sql }) => {
  assert.equal(await output(["delayed", "list"], { url }), "no notification is delayed\n");
  for (const hours of [2, 1]) {
    await sql(
      `select hark.notify_at('c', '{"h": ${hours}}', deliver_at => now() + interval '${hours} hours')`,
    );
  }
  const text = await output(["delayed", "list"], { url });
  assert.match(text, /^number +channel +key +due +role +payload$/m);
  assert.match(text, /2 +c +- +in \S+ \w+ +\w+ +\{"h":1\}\n +1 +c /);
  const done = await ran(["delayed", "cancel", "2", "7"], { url });
  assert.equal(done.code, 1);
  assert.equal(done.stdout, "1 notification cancelled\n");
  assert.match(done.stderr, /7 is not delayed: .*\. See hark delayed list/);
  const left = await jsonOutput(["delayed", "list", "--channel", "c"], { url });
  assert.deepEqual(left.map(({ number }: { number: number }) => number), [1]);
  await refused(["delayed", "cancel"], 2, /no number/, { url });
});

test("hark replay has one or every consumer handle chosen notifications again", async ({ url, sql }) => {
  await sql("select hark.register('billing', array['orders'], 'beginning')");
  await sql("select hark.register('audit', array['orders', 'mail'], 'beginning')");
  await sql(fill);
  for (const name of ["billing", "audit"]) await sql("select hark.seek($1, 'end')", [name]);
  const text = await output(["replay", "--all-consumers", "--ids", "1,2"], { url });
  assert.equal(
    text,
    '2 notifications of "audit" come again when a worker next looks\n' +
      '1 notification of "billing" comes again when a worker next looks\n',
  );
  const done = await ran(["replay", "billing", "--ids", "3", "--ids", "4", "--json"], { url });
  assert.equal(done.code, 1);
  assert.match(done.stderr, /4 of "billing" is not of its channels/);
  assert.deepEqual(JSON.parse(done.stdout).map(({ again }: { again: boolean }) => again), [
    true,
    false,
  ]);
  await refused(
    ["replay", "--all-consumers", "--ids", "77"],
    1,
    /no consumer reads notification 77/,
    {
      url,
    },
  );
  await oneByOne<[string[], RegExp]>([
    [["replay", "--all-consumers"], /without --ids/],
    [["replay", "--ids", "1"], /no CONSUMER/],
    [["replay", "billing"], /not told what/],
    [["replay", "billing", "--ids", "1", "--from", "1"], /contradict/],
    [["replay", "billing", "--all-consumers", "--ids", "1"], /contradict/],
    [["replay", "billing", "--ids", "1,x"], /IDS is "1,x"/],
  ], async ([args, sentence]) => await refused(args, 2, sentence, { url }));
});
