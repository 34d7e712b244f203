import assert from "node:assert/strict";
import { connect, Consumer, notifyMany, status } from "../../mod.ts";
import { cutProxy, test, type TestContext, until } from "../harness/mod.ts";
import { hark, jsonOutput, output, ran, refused } from "./_support/hark.ts";
import type { Screen } from "./_support/within.ts";

test("status says what waits, who serves, what fails, and how large the log is", async (c) => {
  const { url, sql, use } = c;
  const db = use(await connect(url));
  await sql("select hark.register('slow', array['orders', 'mail'])");
  await sql(
    "select hark.notify(channel) from unnest(array['orders', 'orders', 'mail', 'x']) channel",
  );
  const failing = new Consumer(db, {
    id: "failing",
    channels: "orders",
    retry: { initial: 86_400_000, maximum: 86_400_000 },
    handle() {
      throw new Error("out of paper");
    },
  });
  const running = failing.run();
  const found = await until(async () => {
    const now = await status(db);
    return now.consumers[0]?.waiting === 2 ? now : undefined;
  });
  assert(found !== undefined);
  const [first, slow] = found.consumers;
  assert.equal(first?.consumer, "failing");
  assert.deepEqual([first.unread, first.serving, first.workers, first.served], [0, true, 1, 1]);
  assert.deepEqual([first.waiting, first.blocked, first.dead, first.pausedAt], [2, 1, 0, null]);
  assert.match(first.owner ?? "", /^[0-9a-f-]{36}$/);
  assert.match(first.worker ?? "", new RegExp(`^.+:${Deno.pid}(/.+)?$`));
  assert.equal(first.failing?.error, "out of paper");
  assert.equal(first.failing.attempts, 1);
  assert.equal(first.failing.id, 1);
  assert(first.leaseUntil! > new Date() && first.oldestWaiting! < new Date());
  assert(slow!.lagSeconds > 0);
  assert.deepEqual([slow?.unread, slow?.channels, slow?.serving, slow?.failing], [
    3,
    ["orders", "mail"],
    false,
    null,
  ]);
  assert(found.log.bytes > 8192);

  const [asText, asJson] = [
    await output(["status"], { url }),
    await jsonOutput(["status"], { url }),
  ];
  assert.match(
    asText,
    /^consumer +channels +unread +lag +waiting +oldest +dead +served by +handled/,
  );
  const process = `[^ ]*:${Deno.pid}(/[^ ]+)?`;
  assert.match(asText, new RegExp(`^failing +orders +0 +- +2 +\\d[^ ]* s +0 +${process} +0 `, "m"));
  assert.match(asText, /^slow +orders, mail +3 +\d.* +0 +- +0 +no worker +0 +never$/m);
  assert.match(
    asText,
    /^failing +notifications +the first +attempts +last attempt +next attempt +error\n/m,
  );
  assert.match(asText, /^failing +2 +1 +1 +\d.* ago +in \d+ \w+ +out of paper$/m);
  assert.match(asText, /^log +4 notifications, .*, schema version \d+/m);
  assert.deepEqual(
    asJson.consumers.map(({ consumer, unread }: { consumer: string; unread: number }) => ({
      consumer,
      unread,
    })),
    [{ consumer: "failing", unread: 0 }, { consumer: "slow", unread: 3 }],
  );
  await failing.stop();
  await running;
  assert.equal((await status(db)).consumers[0]?.serving, false);
});

/** As workers leave it that were killed or stand by. `session` is of a LISTEN session that is gone. */
async function crew({ sql }: TestContext, partitions: number): Promise<void> {
  await sql("select hark.register('billing', array['orders'], partitions => $1)", [partitions]);
  await sql(
    `with p as (insert into hark.processes (id, session, name, lease_until)
      select gen_random_uuid(), w.session, w.name, clock_timestamp() + interval '1 hour'
      from (values ('web-1:1', 4711), ('web-2:2', null), ('web-3:3', null)) w (name, session) returning id)
    insert into hark.workers (consumer, owner, process) select 'billing', p.id, p.id from p`,
  );
}

/** Gives partitions of billing to a worker. */
async function give({ sql }: TestContext, name: string, partitions: number[]): Promise<void> {
  await sql(
    `update hark.partitions s set owner = w.owner from hark.crew w
    where w.name = $1 and s.partition = any ($2)`,
    [name, partitions],
  );
}

test("status --watch ends when the reader of its output has ended", async ({ url }) => {
  const { code, stderr } = await ran(["status", "--watch", "100ms", "--json"], {
    url,
    closed: true,
  });
  assert.deepEqual([code, stderr], [0, ""]);
});

test("a killed worker serves nothing as soon as its session is gone, and standbys are told apart", async (c) => {
  await crew(c, 2);
  await give(c, "web-1:1", [0]);
  const { url } = c;
  const db = c.use(await connect(url));
  const [gone] = (await status(db)).consumers;
  assert.deepEqual([gone?.serving, gone?.workers, gone?.standingBy], [false, 2, 2]);
  assert.match(
    await output(["status"], { url }),
    /^billing .* no worker, lease ends in \d+ min, 2 standing by +0 /m,
  );
  const shown = await output(["consumers", "show", "billing"], { url });
  assert.match(shown, /^ +0 +0 +0 +no worker, lease ends in \d+ min +0 /m);
  assert.match(shown, /^web-1:1 +no, lease ends in /m);

  await give(c, "web-2:2", [1]);
  const [half] = (await status(db)).consumers;
  assert.deepEqual([half?.worker, half?.served, half?.standingBy], ["web-2:2", 1, 1]);
  assert.match(
    await output(["status"], { url }),
    /^billing .* web-2:2, 1 standing by, 1 of 2 partitions +0 /m,
  );
  await give(c, "web-3:3", [0]);
  assert.match(await output(["status"], { url }), /^billing .* 2 workers +0 /m);
});

test("the next attempt is told alike everywhere, and needs a worker", async (c) => {
  const { url, sql } = c;
  await sql("select hark.register('billing', array['orders'])");
  await sql("select hark.notify('orders', '{}', 'ada') from generate_series(1, 3)");
  await sql(
    `insert into hark.waiting (consumer, id, partition, key, state, attempts, due_at, last_error, failed_at)
    values ('billing', 1, 0, 'ada', 'failed', 1, now() + interval '1 hour', 'no paper', now()),
      ('billing', 2, 0, 'ada', 'behind', 0, now(), null, null),
      ('billing', 3, 0, 'bob', 'failed', 1, now() - interval '1 hour', 'no paper', now())`,
  );
  const told = async () => [
    (await output(["status"], { url })).match(/^billing +2 +1 +1 +.* ago +(.+?) {2,}no paper$/m)
      ?.[1],
    (await output(["consumers", "show", "billing"], { url }))
      .match(/^ +1 +failed +1 +(.+?) {2,}ada +no paper$/m)?.[1],
    (await output(["log", "show", "1"], { url }))
      .match(/^billing +waiting \(failed\) +1 +(.+?) {2,}.* ago +no paper$/m)?.[1],
  ];
  assert.deepEqual(new Set(await told()), new Set(["when a worker runs"]));
  await crew(c, 1);
  for (const text of await told()) assert.match(text ?? "", /^in (59|60) min$/);
  await sql("select hark.pause('billing')");
  assert.deepEqual(new Set(await told()), new Set(["paused"]));
});

test("status and consumers show say how many fail, how many wait behind them, and how long", async (c) => {
  const { url, sql } = c;
  await crew(c, 1);
  await sql("select hark.notify('orders') from generate_series(1, 4)");
  await sql("update hark.log set created_at = now() - interval '50 minutes' where id = 1");
  await sql(
    `insert into hark.waiting (consumer, id, partition, state, attempts, last_error, failed_at)
    select 'billing', n, 0, case when n < 3 then 'failed' else 'behind' end, (n < 3)::integer, 'no paper', now()
    from generate_series(1, 4) n`,
  );
  const text = await output(["status"], { url });
  assert.match(text, /^billing +orders +4 +50 min +4 +50 min +0 /m);
  assert.match(text, /^billing +2 +1 +1 +/m);
  const [one] = (await jsonOutput(["status"], { url })).consumers;
  assert.equal(one.failing.count, 2);
  assert(Math.abs(one.waitingSeconds - 3000) < 60, `${one.waitingSeconds}`);
  assert.match(await output(["consumers", "show", "billing"], { url }), /^and 2 behind them$/m);
  await sql("delete from hark.waiting where id = 2");
  assert.match(await output(["consumers", "show", "billing"], { url }), /^and 2 behind it$/m);
});

test("a large backlog is counted up to a limit", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await sql("select hark.register('slow', array['orders'])");
  await sql("select hark.notify('orders') from generate_series(1, 20)");
  const capped = (await status(db, { maxCount: 10 })).consumers[0];
  assert.deepEqual([capped?.unread, capped?.unreadCapped], [10, true]);
  const whole = (await status(db)).consumers[0];
  assert.deepEqual([whole?.unread, whole?.unreadCapped], [20, false]);
  const log = async (maxCount?: number) =>
    (await status(db, maxCount === undefined ? {} : { maxCount })).log;
  assert.deepEqual([(await log()).rows, (await log()).exact], [20, true]);
  assert.deepEqual([(await log(20)).exact, (await log(19)).exact], [true, false]);
  assert((await log(10)).rows > 10);
  await assert.rejects(status(db, { maxCount: 0 }), { code: "BAD_OPTION" });
});

test("status says how many wait to be delivered later, and that no worker runs that would", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  assert.deepEqual((await status(db)).delayed, { count: 0, capped: false, nextAt: null });
  assert.doesNotMatch(await output(["status"], { url }), /delayed/);
  await notifyMany(db, [
    { channel: "mail", payload: 1, delay: 3_600_000 },
    { channel: "mail", payload: 2, delay: 7_200_000 },
    { channel: "x", payload: 3, delay: 7_200_000 },
  ]);
  const { count, capped, nextAt } = (await status(db)).delayed;
  assert.deepEqual([count, capped], [3, false]);
  const wait = nextAt!.getTime() - Date.now();
  assert(Math.abs(wait - 3_600_000) < 60_000, `in ${wait} ms`);
  const few = (await status(db, { maxCount: 2 })).delayed;
  assert.deepEqual([few.count, few.capped], [2, true]);
  assert.match(
    await output(["status"], { url }),
    /^delayed +3 notifications, the first is due in (59|60) min$/m,
  );
  await sql("update hark.delayed set deliver_at = deliver_at - interval '90 minutes'");
  assert.match(
    await output(["status"], { url }),
    /^delayed +3 notifications, the first was due 30 min ago: it seems that no worker or subscr/m,
  );
});

test("status names an inbox with dead letters, and no other", async ({ url, sql }) => {
  await sql("select hark.inbox_place('shop-in', 'stream', 0)");
  assert.doesNotMatch(await output(["status"], { url }), /inbox/);
  const letters = [5, 6].map((sequence) => ({ sequence, subject: "s", body: "eA==", reason: "r" }));
  await sql("select hark.inbox_take('shop-in', 'stream', 0, 6, $1)", [JSON.stringify(letters)]);
  assert.match(
    await output(["status"], { url }),
    /^inbox +"shop-in" has 2 dead letters, the first from .* ago: hark inbox shop-in --dead$/m,
  );
  const { inboxes } = await jsonOutput(["status"], { url });
  assert.deepEqual([inboxes[0].inbox, inboxes[0].place, inboxes[0].dead], ["shop-in", 6, 2]);
});

test("status shows control characters of others, and does not send them to the terminal", async ({ url, sql }) => {
  await sql(`select hark.register(E'a\\x1b]0;title\\x07', array[E'\\x1b[2J'])`);
  await sql(
    `insert into hark.waiting (consumer, id, partition, state, attempts, last_error, failed_at)
    select name, 1, 0, 'failed', 1, E'bad\\x1b[31m\\rworse\\nhark: all is well', now() from hark.consumers`,
  );
  const text = await output(["status"], { url });
  // deno-lint-ignore no-control-regex -- control characters are what it is about
  assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  assert.match(text, /^a\\u001b\]0;title\\u0007 +\\u001b\[2J/m);
  assert.match(text, / bad\\u001b\[31m\\u000dworse\n +hark: all is well$/m);
  assert.doesNotMatch(text, /^hark:/m, "no line of others passes for one of ours");
});

test("status --watch says it again and again until stopped", async ({ url, use }) => {
  const child = use(hark(["status", "--watch", "100ms", "--json"], { url }));
  await until(() => child.stdout.split("\n").length > 3);
  child.kill("SIGTERM");
  const { code, stdout } = await child.ended();
  assert.equal(code, 0);
  for (const line of stdout.trim().split("\n")) assert.deepEqual(JSON.parse(line).consumers, []);
  assert.match(await output(["status"], { url }), /^no consumer is registered\n\nlog /);
  await refused(["status", "--watch", "0"], 2, /100ms/);
});

test("status --watch says that the database is away, and goes on when it is back", async ({ url, use }) => {
  const { hostname, port } = new URL(url);
  const proxy = use(cutProxy(Number(port), hostname));
  const args = ["status", "--watch", "100ms", "--json"];
  const child = use(hark(args, { url: proxy.through(url) }));
  await child.line(/"consumers":/);
  proxy.refuse();
  await child.line(/^hark: /);
  proxy.resume();
  const looks = child.stdout.length;
  await until(() => child.stdout.length > looks, { what: "another look" });
  child.kill("SIGTERM");
  assert.equal((await child.ended()).code, 0);
});

test("status warns of consumers that hold back cleaning, from an age that is told", async ({ url, sql }) => {
  await sql("select hark.register('gone', array['orders'])");
  await sql("select hark.notify('orders')");
  await sql("update hark.log set created_at = created_at - interval '3 days'");
  assert.doesNotMatch(await output(["status"], { url }), /holds back/);
  assert.match(
    await output(["status", "--warn-after", "2d"], { url }),
    /^holds back cleanup .*\ngone +3 days ago +\d{4}-.*Z +its position has not passed it, no worker serves it$/m,
  );
  const { warnings } = await jsonOutput(["status", "--warn-after", "2.5d"], { url });
  assert.deepEqual(warnings[0].reasons, ["behind", "inactive"]);
  await refused(["status", "--warn-after", "-1d"], 2, /--warn-after is "-1d"/, { url });
});

test("on a terminal trouble is coloured, and nothing else is different", async ({ url, sql }) => {
  await sql("select hark.register('slow', array['orders']), hark.notify('orders')");
  await sql(`insert into hark.dead (consumer, id, channel, attempts, error, died_at)
    values ('slow', 9, 'orders', 20, 'out of paper', now() - interval '9 days')`);
  // Ages that stay the same while the test runs.
  await sql("update hark.log set created_at = created_at - interval '9 days'");
  await sql("update hark.consumers set created_at = created_at - interval '99 days'");
  const read = (command: string, screen: Screen = {}) =>
    output(command.split(" "), { url, ...screen });
  // deno-lint-ignore no-control-regex -- colours
  const colours = /\x1b\[\d*m/g;
  for (const command of ["status", "consumers list", "consumers show slow", "dead list"]) {
    const plain = await read(command);
    assert.doesNotMatch(plain, colours, command);
    const terminal = await read(command, { terminal: true });
    assert.match(terminal, colours, command);
    assert.equal(terminal.replaceAll(colours, ""), plain, command);
    const none = { terminal: true, variables: { NO_COLOR: "1" } };
    assert.equal(await read(command, none), plain, command);
    assert.equal(await read(command, { variables: { FORCE_COLOR: "1" } }), terminal, command);
    const off = { terminal: true, variables: { FORCE_COLOR: "0" } };
    assert.equal(await read(command, off), plain, command);
  }
  const text = await output(["status"], { url, terminal: true });
  assert(text.includes("\x1b[31m1\x1b[0m"), "a dead letter is red");
  assert(text.includes("\x1b[33mno worker\x1b[0m"), "unread without a worker is yellow");
});

test("hark status --watch takes another option after it", async ({ url }) => {
  await using child = hark(["status", "--watch", "--json"], { url });
  await child.line(/"consumers":/);
  child.kill("SIGTERM");
  const { code, stdout } = await child.ended();
  assert.equal(code, 0);
  assert.equal(JSON.parse(stdout.split("\n")[0]!).consumers.length, 0);
});
