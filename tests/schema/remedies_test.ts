/** What a message tells to do next helps: it names what there is, and what to write. */

import assert from "node:assert/strict";
import {
  cleanup,
  connect,
  Consumer,
  deadLetters,
  deleteNotifications,
  notify,
  pause,
  type Queryable,
  replay,
  retry,
  schedule,
  seek,
  setRetention,
} from "../../mod.ts";
import { ran } from "../cli/_support/hark.ts";
import { scratch, test } from "../harness/mod.ts";

// deno-lint-ignore no-explicit-any -- what the compiler would refuse, plain JavaScript passes in
type Any = any;

const silent: Queryable = { query: () => Promise.reject(new Error("it was sent to the server")) };
const options = { id: "billing", channels: "c", handle() {} };

async function messageOf(call: () => unknown): Promise<string> {
  const error = await (async () => await call())().then(
    () => assert.fail(`nothing was refused: ${call}`),
    (error: unknown) => error as Error,
  );
  return error.message;
}

Deno.test("a value in the place of options is answered with what to write instead", async () => {
  const cases: [call: () => unknown, message: RegExp][] = [
    [() => retry(silent, "billing", [4] as Any), /retry was given \[4\].* \{ ids: \[4\] \}/],
    [() => (retry as Any)(silent, "billing"), /retry was given undefined.*\{ all: true \}/],
    [() => (cleanup as Any)(silent), /cleanup was given undefined.*\{ olderThan: "30d" \}/],
    [() => notify(silent, "c", 1, "key-1" as Any), /notify was given "key-1".*\{ key: "key-1" \}/],
    [() => (replay as Any)(silent, "billing"), /replay was given undefined.*\{ from: 1000 \}/],
    [() => (deleteNotifications as Any)(silent, [1]), /was given undefined.*\{ reason: /],
    [() => deleteNotifications(silent, "c" as Any, { reason: "r" }), /which was.*\{ channel: /],
    [() => (schedule as Any)(silent, "a", "0 3 * * *"), /schedule was given.*\{ channel: /],
    [() => deadLetters(silent, 4 as Any), /some of: .*consumer/],
  ];
  for (const [call, message] of cases) assert.match(await messageOf(call), message);
});

Deno.test("a misspelt option is answered with the ones that begin alike", async () => {
  const consumer = (o: Any) => () => new Consumer(silent, { ...options, ...o });
  const cases: [call: () => unknown, meant: string][] = [
    [() => notify(silent, "c", 1, { keys: "k" } as Any), "key"],
    [consumer({ retry: { max: 3 } }), "maximum"],
    [consumer({ channel: "c" }), "channels"],
    [consumer({ max: 3 }), "maxAttempts, maxCrashes or maxWaiting"],
    [() => replay(silent, "c", { from: 1, channel: "c" } as Any), "channels"],
  ];
  for (const [call, meant] of cases) {
    assert((await messageOf(call)).includes(`Did you mean ${meant}?`), meant);
  }
  assert.doesNotMatch(await messageOf(consumer({ nonsense: 1 })), /Did you mean/);
});

Deno.test("a value is answered with every form that is taken", async () => {
  const consumer = (o: Any) => () => new Consumer(silent, { ...options, ...o });
  const cases: [call: () => unknown, message: RegExp][] = [
    [() => seek(silent, "c", { time: "2026-01-01" } as Any), /\{ time: new Date\(/],
    [consumer({ from: { time: "2026-01-01" } }), /new Date\(/],
    [() => setRetention(silent, "30"), /or "forever"\.$/],
    [consumer({ maxAttempts: 0 }), /or Infinity\.$/],
    [consumer({ channels: [] }), /channels of consumer "billing"/],
  ];
  for (const [call, message] of cases) assert.match(await messageOf(call), message);
});

test("an unknown consumer is answered with those that there are", async (context) => {
  const db = context.use(await connect(context.url));
  assert.match(await messageOf(() => pause(db, "nope")), /No consumer is registered yet\./);
  await new Consumer(db, options).drain();
  await new Consumer(db, { ...options, id: "mail" }).drain();
  for (
    const call of [
      () => retry(db, "nope", { all: true }),
      () => deadLetters(db, { consumer: "nope" }),
      () => pause(db, "nope"),
      () => seek(db, "nope", "now"),
    ]
  ) assert.match(await messageOf(call), /Registered are: "billing", "mail"\./);
});

test("a consumer that is removed while it runs ends with what happened", async (context) => {
  const db = context.use(await connect(context.url));
  const consumer = new Consumer(db, options);
  const running = consumer.run();
  const ended = messageOf(() => running);
  await Promise.race([consumer.ready, ended]);
  await context.sql("select hark.remove_consumer('billing')");
  assert.match(await ended, /^the consumer "billing" has been removed\. Run it again/);
});

test("the grant for a missing right names the role that lacks it", async (context) => {
  const role = `it's_${context.database.slice(-12)}`;
  const quoted = `"${role}"`;
  await context.sql(`create role ${quoted} login`);
  try {
    const url = new URL(context.url);
    url.username = encodeURIComponent(role);
    await using db = await connect(url.href);
    const named = `('${role.replace("'", "''")}')`;
    for (const call of [() => retry(db, "c", { all: true }), () => notify(db, "c", 1)]) {
      const message = await messageOf(call);
      assert(message.includes(`hark.grant_publish${named}`), message);
      assert(message.includes(`hark.grant_operate${named}`), message);
    }
    await context.sql(`select hark.grant_publish('${role.replace("'", "''")}')`);
    const message = await messageOf(() => new Consumer(db, options).run());
    assert(message.includes(`hark.grant_consume${named}`), message);
  } finally {
    await context.sql(`drop owned by ${quoted}`);
    await context.sql(`drop role ${quoted}`);
  }
});

Deno.test("the command line says once what is wrong, with bounds that can be read", async () => {
  const cases: [args: string[], message: RegExp][] = [
    [["notify", "c", "--delay", "20x"], /^hark: --delay is "20x"\. /],
    [["tail", "--since", "x"], /^hark: --since is "x".* at most 100000d/],
    [["tail", "--limit", "0"], /^hark: N is "0"|^hark: `--limit`: N is "0"/],
  ];
  for (const [args, message] of cases) {
    const { stderr, code } = await ran(args);
    assert.match(stderr, message);
    assert.equal(code, 2);
  }
});

test("a class that is refused is named once", async (context) => {
  await using folder = await scratch();
  const mod = new URL("../../mod.ts", import.meta.url).href;
  await Deno.writeTextFile(
    `${folder.path}/c.ts`,
    `import { Consumer } from "${mod}";
    export class Mail extends Consumer { id = "mail"; channels = "c"; maxAttemps = 3; handle() {} }`,
  );
  const { stderr } = await ran(["listen", `${folder.path}/c.ts`], { url: context.url });
  assert.match(stderr, /c\.ts: class Mail has a member "maxAttemps"/);
  assert.equal(stderr.match(/class Mail/g)?.length, 1, stderr);
});
