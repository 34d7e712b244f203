import assert from "node:assert/strict";
import { join } from "node:path";
import { configure, getConfig, reset } from "@logtape/logtape";
import { connect, Consumer, DeadLetter, notify, notifyMany } from "../../mod.ts";
import { lines } from "../../src/log/text.ts";
import type { Left } from "../../src/log/hidden.ts";
import { type Keys, Thinning } from "../../src/log/thinning.ts";
import { hark, writeModules } from "../cli/_support/hark.ts";
import { scratch, spawnDeno, test, type TestContext, until } from "../harness/mod.ts";

async function stderrOf({ url, use }: TestContext, when: string): Promise<string[]> {
  const child = use(spawnDeno(["tests/consume/_support/silent.ts", url, when], {
    permissions: ["-P=example"],
  }));
  const { code, stdout, stderr } = await child.ended();
  assert.equal(code, 0, stderr);
  assert.equal(stdout, "");
  return stderr.trimEnd().split("\n").filter((line) => line !== "");
}

test("a bug in the README's program is printed, with the line of the user's own file", async (c) => {
  const printed = await stderrOf(c, "never");
  const text = printed.join("\n");
  assert.match(
    printed[0]!,
    /^hark: billing: notification 1 failed at attempt 1, next attempt in \d+ ms: TypeError: Cannot read properties of undefined \(reading 'name'\)$/,
  );
  assert.match(printed[1]!, /^ +at bill \(file:.*_support\/silent\.ts:\d+:\d+\)$/);
  assert.match(text, /^hark: billing: notification 1 became a dead letter after attempt 2: Type/m);
  assert.doesNotMatch(text, /\/src\/|payload-4711/);
  // One line, once, says how to turn it off.
  assert.equal(text.match(/To print nothing: configureSync\(/g)?.length, 1, text);
});

test("what it says to do prints nothing", async (c) => {
  assert.deepEqual(await stderrOf(c, "nothing"), []);
});

test("a program that configures LogTape later reads nothing twice", async (c) => {
  const printed = await stderrOf(c, "later");
  assert.equal(printed.filter((line) => /failed at attempt 1/.test(line)).length, 1);
  const text = printed.join("\n");
  assert.equal(printed.filter((line) => line === "app: error").length, 1, text);
  assert.doesNotMatch(text, /dead letter/);
});

test("a program that configures LogTape for a category of its own decides what is printed", async (c) => {
  assert.deepEqual(await stderrOf(c, "other"), []);
});

test("hark listen prints a failure once", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, {
    "m.ts": `export const m = { id: "m", channels: "orders", maxAttempts: 1,
      handle() { throw new Error("no such tax"); } };`,
  });
  await sql("select hark.notify('orders', '1')");
  await using printed = await recorded();
  const child = use(hark(["listen", join(folder.path, "m.ts"), "--drain"], { url }));
  const { stderr } = await child.ended();
  assert.equal(stderr.match(/no such tax/g)?.length, 1, stderr);
  assert.match(stderr, /^ +at .*m\.ts:\d+:\d+/m, "with the line of the module");
  assert.deepEqual(printed.lines, []);
});

test("a thousand failures of one kind are a few lines with their number", async (c) => {
  const db = c.use(await connect(c.url));
  await notifyMany(db, Array.from({ length: 1000 }, (_, n) => ({ channel: "c", payload: n })));
  await using printed = await recorded();
  const consumer = new Consumer(db, {
    id: "flood",
    channels: "c",
    handle({ id }) {
      throw new DeadLetter(`order ${id} is not known`);
    },
  });
  const begun = performance.now();
  await consumer.drain();
  const about = printed.lines.filter((line) => /became a dead letter/.test(line));
  // Of those that come within ten seconds: the first, the 10th, the 100th, the 1,000th and the rest.
  const most = 5 * (1 + (performance.now() - begun) / 10_000);
  assert(about.length >= 3 && about.length <= most, about.join("\n"));
  assert.match(about[1]!, /\(8 more like it, of 8 notifications: 2, 3, 4, 5, 6, 7, 8, 9\)$/);
  const counted = about.map((line) => 1 + Number(/\((\d+) more like it,/.exec(line)?.[1] ?? 0));
  assert.equal(counted.reduce((a, b) => a + b), 1000, "none is left out of the count");
});

test("at the end of a drain, what was left out is told", async (c) => {
  const db = c.use(await connect(c.url));
  await notifyMany(db, [1, 2, 3, 4, 5].map((payload) => ({ channel: "c", payload })));
  await using printed = await recorded();
  const consumer = new Consumer(db, {
    id: "five",
    channels: "c",
    handle({ payload }) {
      if (payload > 1) throw new DeadLetter("no such tax");
    },
  });
  assert.equal(await consumer.drain(), 1);
  const about = printed.lines.filter((line) => line.startsWith("hark: five"));
  assert.deepEqual(about, [
    "hark: five: notification 2 became a dead letter after attempt 1: DeadLetter: no such tax",
    "hark: five: earlier: notification 5 became a dead letter after attempt 1: DeadLetter: no such tax (2 more like it, of 2 notifications: 3, 4)",
  ]);
});

test("what was left out says which notifications fail and how often, not what was to come", async (c) => {
  const db = c.use(await connect(c.url));
  await notifyMany(db, [1, 2, 3, 4].map((payload) => ({ channel: "c", payload })));
  await using printed = await recorded();
  let calls = 0;
  const consumer = new Consumer(db, {
    id: "four",
    channels: "c",
    // The first comes again within the drain, and all wait for the next one in the end.
    retry: (_error, attempt, { id }) => id === 1 && attempt < 4 ? 1 : "1h",
    handle() {
      calls++;
      throw new Error("no such tax");
    },
  });
  assert.equal(await consumer.drain(), 0);
  assert.equal(calls, 7);
  const about = printed.lines.filter((line) => /^hark: four/.test(line));
  assert.equal(about.length, 2, about.join("\n"));
  assert.match(
    about[0]!,
    /^hark: four: notification 1 failed at attempt 1, next attempt in 1 ms: /,
  );
  assert.match(
    about[1]!,
    /^hark: four: earlier: notification \d failed at attempt \d: no such tax \(5 more like it, of \d notifications: /,
  );
  const named = new Set(about[1]!.match(/(?<=notification |notifications: .*)\d/g));
  assert.deepEqual([...named].sort(), ["1", "2", "3", "4"]);
});

test("a failure is printed with the attempt that its handler got, also after a restart", async (c) => {
  const db = c.use(await connect(c.url));
  await notify(db, "c", 1);
  await using printed = await recorded();
  const attempts: number[] = [];
  const options = {
    id: "again",
    channels: "c",
    retry: { initial: "1h", maximum: "1h" },
    handle({ attempt }: { attempt: number }) {
      attempts.push(attempt);
      throw new Error(`no tax by ${"abc"[attempts.length]}`);
    },
  } as const;
  for (let run = 1; run <= 2; run++) {
    const consumer = new Consumer(db, options);
    const running = consumer.run();
    await until(() => attempts.length === run);
    await consumer.stop();
    await running;
  }
  const told = printed.lines.map((line) =>
    /^hark: again: .* failed at attempt (\d+)/.exec(line)?.[1]
  )
    .filter((attempt) => attempt !== undefined).map(Number);
  assert.deepEqual(attempts, [1, 2]);
  assert.deepEqual(told, attempts);
});

test("nothing is printed late about a notification that is handled or given up by then", async (c) => {
  const db = c.use(await connect(c.url));
  await notifyMany(db, [1, 2, 3].map((payload) => ({ channel: "c", payload })));
  await using printed = await recorded();
  const consumer = new Consumer(db, {
    id: "settles",
    channels: "c",
    maxAttempts: 3,
    retry: { initial: 1 },
    handle({ payload, attempt }) {
      if (payload === 1 || attempt < 3) throw new Error("no such tax");
    },
  });
  assert.equal(await consumer.drain(), 2);
  const about = printed.lines.filter((line) => /^hark: settles/.test(line));
  assert.equal(about.length, 2, about.join("\n"));
  assert.match(about[0]!, /: notification 1 failed at attempt 1, /);
  assert.match(about[1]!, /^hark: settles: notification 1 became a dead letter after attempt 3: /);
});

test("failures for very many reasons are bounded, and told at the end", async (c) => {
  const db = c.use(await connect(c.url));
  const reasons = Array.from({ length: 300 }, (_, n) => "x".repeat(n + 1));
  await notifyMany(db, reasons.map((payload) => ({ channel: "c", payload })));
  await using printed = await recorded();
  const consumer = new Consumer(db, {
    id: "many",
    channels: "c",
    handle({ payload }) {
      throw new DeadLetter(`no ${payload}`);
    },
  });
  await consumer.drain();
  const { length } = printed.lines.filter((line) => line.startsWith("hark: many: "));
  assert(length <= 20, `${length} lines`);
  const left = /^hark: (\d+) other warnings and errors were not printed$/.exec(
    printed.lines.at(-1)!,
  );
  assert.equal(Number(left?.[1]) + length, 300);
});

test("what is printed shows no payload, no password, and nothing that moves a terminal's cursor", async (c) => {
  const db = c.use(await connect(c.url));
  await notify(db, "c", { card: "4111-1111" });
  await c.sql("create table people (email text unique)");
  await using printed = await recorded();
  const consumer = new Consumer(db, {
    id: "quiet",
    channels: "c",
    maxAttempts: 4,
    retry: { initial: 1 },
    async handle(notification) {
      if (notification.attempt === 1) throw notification.payload;
      if (notification.attempt === 2) {
        throw new Error("postgres://me:s3cr@et@db/x and password='p w' fail\nparams: 4111-1111");
      }
      if (notification.attempt === 3) throw new Error("\x1b[2Jgone\u202e");
      for (let i = 0; i < 2; i++) await db.query("insert into people values ('4111-1111')");
    },
  });
  await consumer.drain();
  const text = printed.lines.join("\n");
  assert.match(text, /: an object with card was thrown, which is no Error$/m);
  assert.match(text, /postgres:\/\/me:\*\*\*@db\/x and password=\*\*\* fail/);
  assert.match(text, /\\u001b\[2Jgone\\u202e/);
  assert.match(text, /duplicate key value violates unique constraint/);
  assert.doesNotMatch(text, /4111|s3cr|et@|p w/);
  assert(!text.includes("\x1b"));
});

test("a lost connection is printed too, and that LISTEN is back", async (c) => {
  const db = c.use(await connect(c.url));
  await notify(db, "c", 1);
  await using printed = await recorded();
  const handled = Promise.withResolvers<void>();
  const consumer = new Consumer(db, {
    id: "lost",
    channels: "c",
    handle: ({ payload }) => payload === 2 && handled.resolve(),
  });
  const running = consumer.run();
  await until(async () => (await c.sql("select handled from hark.status()"))[0]?.handled == 1);
  await c.sql(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
    [
      c.appName,
    ],
  );
  await notify(c.admin, "c", 2);
  await handled.promise;
  const back = /^hark: The LISTEN connection is back/;
  await until(() => Promise.resolve(printed.lines.some((line) => back.test(line))));
  await consumer.stop();
  await running;
  assert.match(
    printed.lines.join("\n"),
    /^hark: LISTEN connection lost: /m,
  );
});

Deno.test("a cause is printed below the error, without the places in Hark", () => {
  const error = new RangeError("the tax is too high", { cause: new Error("row 7") });
  const [first, ...more] = lines("{consumer}: {reason}", { consumer: "x", reason: "-", error }, {
    alike: none,
    others: 3,
  });
  assert.equal(first, "hark: x: RangeError: the tax is too high");
  assert.match(more[0]!, /printed_test\.ts/);
  assert.deepEqual(more.slice(-2), [
    "    cause: row 7",
    "hark: 3 other warnings and errors were not printed",
  ]);
});

Deno.test("a long wait is printed as people read it", () => {
  const wait = (ms: number) =>
    lines("next in {wait} ms: x", { wait: ms }, { alike: none, others: 0 });
  assert.deepEqual(wait(412), ["hark: next in 412 ms: x"]);
  assert.deepEqual(wait(336_120), ["hark: next in 5.6 min: x"]);
});

Deno.test("failures of very many kinds are bounded too, and counted", () => {
  const thinning = new Thinning();
  let printed = 0;
  for (let n = 0; n < 1000; n++) {
    if (thinning.admit(keys("one", `kind ${n}`), n, n) !== undefined) printed++;
  }
  assert.equal(printed, 20);
  // Another consumer's failures are printed in between.
  assert.deepEqual(thinning.admit(keys("two", "kind"), 1000, 0), { alike: none, others: 980 });
});

Deno.test("failures of very many notifications are bounded, and counted", () => {
  const thinning = new Thinning();
  for (let id = 1; id <= 5000; id++) {
    thinning.admit({ group: "g", kind: "k", consumer: "c", id }, id, id);
  }
  const { last: [[what, alike]], others } = thinning.takeHidden() as {
    last: [[number, Left]];
    others: number;
  };
  // Printed were 1, 10, 100 and 1000.
  assert.deepEqual([what, alike.count, alike.ids.length, alike.andOthers, others], [
    1020,
    3999,
    499,
    true,
    0,
  ]);
});

/** No records. */
const none: Left = { count: 0, ids: [], andOthers: false };

/** The keys of a record about no notification. */
function keys(group: string, kind: string): Keys {
  return { group, kind, consumer: group, id: undefined };
}

/** What goes to the console, as long as no program has configured LogTape: another test may have. */
async function recorded(): Promise<AsyncDisposable & { lines: string[] }> {
  const before = getConfig();
  await reset();
  const { error } = console;
  const lines: string[] = [];
  console.error = (line: string) => void lines.push(line);
  return {
    lines,
    [Symbol.asyncDispose]: async () => {
      console.error = error;
      if (before !== null) await configure({ ...before, reset: true });
    },
  };
}
