/** Schedules: each time once over all workers, by the server's clock, in time zones with summer time. */

import assert from "node:assert/strict";
import { connect, Consumer, schedule, schedules, unschedule } from "../../mod.ts";
import { translate } from "../../src/database/translate.ts";
import { cronTimes } from "../../src/publish/cron.ts";
import { NEVER_POLL, Running } from "../faults/_support/running.ts";
import { test, type TestContext, until } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";

/** The times for which something was published, in the order of ids. */
async function published({ sql }: Pick<TestContext, "sql">, channel = "c"): Promise<string[]> {
  const rows = await sql(
    "select headers->>'scheduledAt' as at from hark.log where channel = $1 order by id",
    [channel],
  );
  return rows.map((row) => row.at);
}

/** Moves the time at which a schedule is due. */
async function dueAt({ sql }: Pick<TestContext, "sql">, name: string, ago: string) {
  const [row] = await sql(
    `update hark.schedules set next_at = date_trunc('second', clock_timestamp() - $2::interval)
      where name = $1
      returning to_char(next_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as at`,
    [name, ago],
  );
  return row.at;
}

const drained = (db: Parameters<typeof schedule>[0], channel = "c") =>
  new Consumer(db, { id: "drain", channels: channel, handle() {} }).drain();

test("five workers publish each time once, without polling, and in order", async (context) => {
  const dbs = await Promise.all(Array.from({ length: 5 }, () => connect(context.url)));
  for (const db of dbs) context.use(db);
  const workers = dbs.map((db, i) =>
    context.use(new Running(db, { id: `w${i}`, pollInterval: NEVER_POLL }))
  );
  await Promise.all(workers.map(({ consumer }) => consumer.ready));
  await schedule(dbs[0]!, "ticks", "* * * * * *", {
    channel: "c",
    key: "k",
    headers: { by: "me" },
  });
  await Promise.all(workers.map((one) => one.atLeast(3)));
  await unschedule(dbs[0]!, "ticks");
  const times = await context.sql(
    `select t.at, (extract(epoch from l.created_at - t.at) * 1000)::int as late
    from hark.log l, cast(l.headers->>'scheduledAt' as timestamptz) t (at) order by l.id`,
  );
  assert(times.length >= 3);
  for (const [i, { at }] of times.entries()) {
    if (i === 0) continue;
    const before = times[i - 1]!;
    const gap = at - before.at;
    // What is published a second late is published for all times that are over then.
    assert(
      gap > 0 && gap % 1000 === 0 &&
        (gap === 1000 || before.late >= 1000 && gap < before.late + 2000),
      `${gap} ms`,
    );
  }
  const [first] = workers[0]!.inbox.items;
  assert.deepEqual([first!.key, first!.payload], ["k", {}]);
  assert.deepEqual(first!.headers, {
    by: "me",
    schedule: "ticks",
    scheduledAt: (await published(context))[0],
  });
  const early = await context.sql(
    "select id from hark.log where created_at < (headers->>'scheduledAt')::timestamptz",
  );
  assert.deepEqual(early, []);
});

test("a worker that ends while it publishes leaves the time to the next one", async (context) => {
  const db = context.use(await connect(context.url));
  await schedule(db, "s", "0 3 * * *", { channel: "c" });
  const time = await dueAt(context, "s", "2 seconds");
  const dying = await context.client();
  await dying.query("begin");
  const { rows: [row] } = await dying.query("select * from hark.next_schedules()");
  const { rows: [answer] } = await dying.query(
    "select hark.run_schedule($1, $2, $3, $4::float8, $4::float8 + 1000) as ran",
    [row.name, row.cron, row.timezone, row.due_ms],
  );
  assert.equal(answer.ran, true);
  // No worker waits for that transaction.
  assert.equal(await drained(db), 0);
  await context.sql("select pg_terminate_backend($1, 5000)", [
    (dying as unknown as { processID: number }).processID,
  ]);
  await drained(db);
  assert.deepEqual(await published(context), [time]);
});

test("times at which no worker ran are published once, or skipped", async (context) => {
  const db = context.use(await connect(context.url));
  await schedule(db, "once", "* * * * * *", { channel: "c" });
  await schedule(db, "skip", "0 * * * *", { channel: "d", missed: "skip" });
  await schedule(db, "soon", "0 * * * *", { channel: "e", missed: "skip" });
  // Only the first is left to count: the next second would be another time.
  const missed = await dueAt(context, "once", "3 hours");
  await dueAt(context, "skip", "61 seconds");
  const late = await dueAt(context, "soon", "10 seconds");
  await new Consumer(db, { id: "x", channels: "x", handle() {} }).drain();
  assert.equal((await published(context))[0], missed);
  assert((await published(context)).length <= 3);
  assert.deepEqual(await published(context, "d"), []);
  assert.deepEqual(await published(context, "e"), [late]);
  for (const { name, nextAt, lastAt } of await schedules(db)) {
    assert(nextAt! > new Date(Date.now() - 5000), name);
    assert.equal(lastAt === null, name === "skip");
  }
});

test("a program that stores its schedules at each start loses no time that is due", async (context) => {
  const db = context.use(await connect(context.url));
  const options = { channel: "c", timezone: "Europe/Berlin" };
  await schedule(db, "s", "0 3 * * *", options);
  const time = await dueAt(context, "s", "2 minutes");
  assert.equal(
    (await schedule(db, "s", "0 3 * * *", { ...options, payload: 2 })).getTime(),
    Date.parse(time),
  );
  await drained(db);
  const [row] = await context.sql("select payload, headers->>'scheduledAt' as at from hark.log");
  assert.deepEqual(row, { payload: 2, at: time });
  // Another pattern begins anew.
  await dueAt(context, "s", "2 minutes");
  assert(await schedule(db, "s", "0 4 * * *", options) > new Date());
  await dueAt(context, "s", "2 minutes");
  assert(await schedule(db, "s", "0 4 * * *", { channel: "c" }) > new Date());
  const [stored, ...others] = await schedules(db);
  assert.deepEqual(others, []);
  assert.deepEqual(
    [stored!.name, stored!.cron, stored!.timezone, stored!.missed, stored!.problem],
    ["s", "0 4 * * *", "UTC", "once", null],
  );
  assert.equal(await unschedule(db, "s"), true);
  assert.equal(await unschedule(db, "s"), false);
});

test("the server's clock decides, not the program's", async (context) => {
  const db = context.use(await connect(context.url));
  const { now } = Date;
  const real = now();
  Date.now = () => real + 400 * 86_400_000;
  try {
    const next = await schedule(db, "s", "0 0 * * *", { channel: "c" });
    assert(next.getTime() > real - 60_000 && next.getTime() < real + 86_460_000, String(next));
    await dueAt(context, "s", "1 second");
    await drained(db);
  } finally {
    Date.now = now;
  }
  const nextAt = (await schedules(db))[0]!.nextAt!;
  assert(nextAt.getTime() < real + 86_460_000, String(nextAt));
  assert.equal((await published(context)).length, 1);
});

Deno.test("summer time skips no day and repeats none", async () => {
  const times = async (pattern: string, from: string, count: number, zone = "Europe/Berlin") =>
    (await cronTimes(pattern, zone, new Date(from), count)).map((time) =>
      time.toISOString().slice(5, 16)
    );
  // On 29 March 2026, 02:00 became 03:00 in Berlin. What was due at 02:30 is due at 03:00.
  assert.deepEqual(await times("30 2 * * *", "2026-03-27T12:00Z", 3), [
    "03-28T01:30",
    "03-29T01:00",
    "03-30T00:30",
  ]);
  // Each real hour has its time.
  assert.deepEqual(await times("0 * * * *", "2026-03-28T23:30Z", 4), [
    "03-29T00:00",
    "03-29T01:00",
    "03-29T02:00",
    "03-29T03:00",
  ]);
  // On 25 October 2026, 03:00 became 02:00. There were two times 02:30: the first counts.
  assert.deepEqual(await times("30 2 * * *", "2026-10-23T12:00Z", 4), [
    "10-24T00:30",
    "10-25T00:30",
    "10-26T01:30",
    "10-27T01:30",
  ]);
  assert.deepEqual(await times("0 * * * *", "2026-10-24T23:30Z", 4), [
    "10-25T00:00",
    "10-25T01:00",
    "10-25T02:00",
    "10-25T03:00",
  ]);
  // A worker that looks in the second 02:30 repeats nothing.
  assert.deepEqual(await times("30 2 * * *", "2026-10-25T01:30Z", 1), ["10-26T01:30"]);
  // In Santiago a day began at 01:00.
  assert.deepEqual(await times("0 0 * * *", "2026-09-05T12:00Z", 2, "America/Santiago"), [
    "09-06T04:00",
    "09-07T03:00",
  ]);
  assert.deepEqual(await times("0 9 * * *", "2026-03-28T00:00Z", 2, "UTC"), [
    "03-28T09:00",
    "03-29T09:00",
  ]);
});

test("a pattern that cannot be read rests, is named, and holds up no other", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql(
    "select hark.schedule('bad', 'every day', 'UTC', clock_timestamp() - interval '1 second', 'c')",
  );
  await context.sql(
    "select hark.schedule('last', '0 0 30 2 *', 'UTC', clock_timestamp() - interval '1 second', 'c')",
  );
  await schedule(db, "good", "0 3 * * *", { channel: "c" });
  await dueAt(context, "good", "1 second");
  await drained(db);
  assert.equal((await published(context)).length, 2);
  const [bad, , last] = await schedules(db);
  assert.match(bad!.problem!, /^cron is "every day"/);
  assert.equal(bad!.nextAt, null);
  assert.deepEqual([last!.nextAt, last!.problem], [null, null]);
  // Stored anew, it is mended.
  await schedule(db, "bad", "0 3 * * *", { channel: "c" });
  assert.equal((await schedules(db))[0]!.problem, null);
});

test("what cannot be scheduled is refused, with a remedy", async (context) => {
  const db = context.use(await connect(context.url));
  const cases: [unknown[], RegExp, string?][] = [
    [["", "0 3 * * *", { channel: "c" }], /^the schedule's name is ""/],
    [["s", "61 3 * * *", { channel: "c" }], /^cron is "61 3 \* \* \*". Invalid value for minute/],
    [["s", "3 * * *", { channel: "c" }], /^cron is "3 \* \* \*". Give 5 fields/],
    [["s", "2026-12-01T00:00:00", { channel: "c" }], /^cron is/],
    [["s", "@reboot", { channel: "c" }], /^cron is "@reboot"/],
    [["s", 5, { channel: "c" }], /^cron is 5/],
    [["s", "0 0 30 2 *", { channel: "c" }], /It names no time to come/],
    [["s", "0 3 * * *", { channel: "c", timezone: "Mars/Base" }], /^timezone is "Mars\/Base"/],
    [["s", "0 3 * * *", { channel: "c", missed: "never" }], /^missed is "never"/],
    [["s", "0 3 * * *", { channel: "c", tz: "UTC" }], /^schedule has no option "tz"/],
    [["s", "0 3 * * *", {}], /^channel is undefined/, "BAD_CHANNEL"],
    [["s", "0 3 * * *", { channel: "c", payload: NaN }], /NaN/, "BAD_PAYLOAD"],
  ];
  for (const [given, message, code = "BAD_OPTION"] of cases) {
    const args = given as [string, string, { channel: string }];
    await assert.rejects(schedule(db, ...args), { code, message });
  }
  for (
    const [call, code] of [
      ["('s', '* * * * *', 'UTC', null, 'c')", "BAD_OPTION"],
      ["('s', '* * * * *', 'UTC', 'infinity', 'c')", "BAD_OPTION"],
      ["('s', null, 'UTC', now(), 'c')", "BAD_OPTION"],
      ["('s', '* * * * *', 'UTC', now(), '')", "BAD_CHANNEL"],
      ["('s', '* * * * *', 'UTC', now(), 'c', missed => 'x')", "BAD_OPTION"],
      ["('', '* * * * *', 'UTC', now(), 'c')", "BAD_OPTION"],
    ]
  ) {
    const error = await context.sql(`select hark.schedule${call}`).then(
      () => assert.fail(call),
      translate,
    );
    assert.equal(error.code, code, call);
    assert(error.remedy, call);
  }
  assert.deepEqual(await schedules(db), []);
});

test("a role changes only its own schedules; an operator removes any", async (context) => {
  const [web, stranger, operator, reader] = await Promise.all(
    Array.from({ length: 4 }, () => role(context)),
  );
  for (const { name } of [web!, stranger!]) {
    await context.sql("select hark.grant_publish($1)", [name]);
  }
  await context.sql("select hark.grant_operate($1)", [operator!.name]);
  await context.sql("select hark.grant_consume($1)", [reader!.name]);
  const [mine, other, operates, reads] = await Promise.all(
    [web, stranger, operator, reader].map(async (one) => context.use(await connect(one!.url))),
  );
  await schedule(mine!, "s", "0 3 * * *", { channel: "c" });
  const refused = {
    code: "NO_PERMISSION",
    message: `role "${web!.name}" stored the schedule "s", and role "${stranger!.name}" does not ` +
      `have its rights. Change it as ${web!.name}, or as an operator (hark.grant_operate).`,
  };
  await assert.rejects(schedule(other!, "s", "0 4 * * *", { channel: "c" }), refused);
  await assert.rejects(unschedule(other!, "s"), refused);
  await assert.rejects(unschedule(reads!, "s"), { code: "NO_PERMISSION" });
  await assert.rejects(schedule(operates!, "t", "0 4 * * *", { channel: "c" }), {
    code: "NO_PERMISSION",
    message: /may not publish/,
  });
  await assert.rejects(schedules(other!), { code: "NO_PERMISSION" });
  assert.equal((await schedules(reads!))[0]!.owner, web!.name);
  assert.equal((await schedule(mine!, "s", "0 4 * * *", { channel: "c" })).getUTCHours(), 4);
  // A role that only consumes publishes what is due, and nothing that is not.
  const [row] = await context.sql("select * from hark.next_schedules()");
  const early = await reads!.query(
    "select hark.run_schedule($1, $2, $3, $4::float8, $4::float8 + 1000) as ran",
    [row.name, row.cron, row.timezone, row.due_ms],
  );
  assert.equal(early.rows[0].ran, false);
  const time = await dueAt(context, "s", "1 second");
  await drained(reads!);
  assert.deepEqual(await published(context), [time]);
  assert.equal(await unschedule(operates!, "s"), true);
});

test("a schedule is part of the transaction that stores it", async (context) => {
  const db = context.use(await connect(context.url));
  const client = await context.client();
  await client.query("begin");
  await schedule(client, "s", "* * * * * *", { channel: "c" });
  assert.deepEqual(await schedules(db), []);
  await client.query("rollback");
  assert.deepEqual(await schedules(db), []);
});

test("a worker that sleeps learns of a schedule that another program stores", async (context) => {
  const db = context.use(await connect(context.url));
  const worker = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await worker.consumer.ready;
  const other = await context.client();
  await schedule(other, "s", "* * * * * *", { channel: "c" });
  await worker.atLeast(1, { deadline: 3000 });
  await unschedule(other, "s");
  await until(async () => (await schedules(db)).length === 0);
});

Deno.test("a program that only publishes does not load the parser of patterns", async () => {
  const { stdout } = await new Deno.Command("deno", {
    args: ["info", "--json", new URL("../../mod.ts", import.meta.url).pathname],
    stdin: "null",
    stderr: "null",
  }).output();
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as {
    modules: {
      specifier: string;
      dependencies?: { specifier: string; isDynamic?: boolean; code?: unknown }[];
    }[];
  };
  const uses = modules.flatMap(({ specifier, dependencies = [] }) =>
    dependencies.filter((one) => one.specifier === "croner").map((one) => ({
      ...one,
      of: specifier,
    }))
  );
  assert(uses.length > 0);
  for (const use of uses) assert(use.isDynamic === true || use.code === undefined, use.of);
});
