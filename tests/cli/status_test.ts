import assert from "node:assert/strict";
import { connect, Consumer, status } from "../../mod.ts";
import { deferred, test, until } from "../harness/mod.ts";
import { hark, jsonOutput, output, refused } from "./hark.ts";

test("status says what waits, who serves, what fails, and how large the log is", async (c) => {
  const { url, sql, use } = c;
  const db = use(await connect(url));
  await sql("select hark.register('slow', array['orders', 'mail'])");
  await sql(
    "select hark.notify(channel) from unnest(array['orders', 'orders', 'mail', 'x']) channel",
  );
  const failed = deferred();
  const failing = new Consumer(db, {
    id: "failing",
    channels: "orders",
    retry: { initial: 86_400_000, maximum: 86_400_000 },
    handle() {
      throw new Error("out of paper");
    },
    onError: () => failed.resolve(),
  });
  const running = failing.run();
  await failed.wait();
  const found = await until(async () => {
    const now = await status(db);
    return now.consumers[0]?.failing ? now : undefined;
  });
  assert(found !== undefined);
  const [first, slow] = found.consumers;
  assert.equal(first?.consumer, "failing");
  assert.deepEqual([first.unread, first.serving, first.handled], [2, true, 0]);
  assert.match(first.owner ?? "", /^[0-9a-f-]{36}$/);
  assert.equal(first.failing?.error, "out of paper");
  assert.equal(first.failing.attempts, 1);
  assert(first.lagSeconds > 0 && first.leaseUntil! > new Date());
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
  assert.match(asText, /^consumer +channels +unread +lag +served/);
  assert.match(asText, /^failing +orders +2 +\d.* s +by [0-9a-f]{8} /m);
  assert.match(asText, /^slow +orders, mail +3 +\d.* +no +0 +never$/m);
  assert.match(asText, /"failing" fails on notification 1, 1 attempt, .*: out of paper/);
  assert.match(asText, /log: 4 notifications, .*; schema version \d+/);
  assert.deepEqual(
    asJson.consumers.map(({ consumer, unread }: { consumer: string; unread: number }) => ({
      consumer,
      unread,
    })),
    [{ consumer: "failing", unread: 2 }, { consumer: "slow", unread: 3 }],
  );
  await failing.stop();
  await running;
  assert.equal((await status(db)).consumers[0]?.serving, false);
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

test("status shows control characters of others, and does not send them to the terminal", async ({ url, sql }) => {
  await sql(`select hark.register(E'a\\x1b]0;title\\x07', array[E'\\x1b[2J'])`);
  await sql(`update hark.partitions set failing_id = 1, attempts = 1,
    last_error = E'bad\\x1b[31m\\rworse\\nhark: all is well', failed_at = now()`);
  const text = await output(["status"], { url });
  // deno-lint-ignore no-control-regex -- control characters are what it is about
  assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/);
  assert.match(text, /^a\\u001b\]0;title\\u0007 +\\u001b\[2J/m);
  assert.match(text, /: bad\\u001b\[31m\\u000dworse\n {4}hark: all is well$/m);
});

test("status --watch says it again and again until stopped", async ({ url, use }) => {
  const child = use(hark(["status", "--watch", "0.1", "--json"], { url }));
  await until(() => child.stdout.split("\n").length > 3);
  child.kill("SIGTERM");
  const { code, stdout } = await child.ended();
  assert.equal(code, 0);
  for (const line of stdout.trim().split("\n")) assert.deepEqual(JSON.parse(line).consumers, []);
  assert.match(await output(["status"], { url }), /^no consumer is registered\nlog: /);
  await refused(["status", "--watch", "0"], 2, /0\.1/);
});
