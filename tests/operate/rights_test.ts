import assert from "node:assert/strict";
import {
  cleanup,
  connect,
  consumerDetails,
  consumers,
  deadLetters,
  delayedNotifications,
  deleteNotifications,
  deletions,
  discard,
  logChannels,
  notification,
  notifications,
  notify,
  pause,
  removeConsumer,
  replay,
  replayIds,
  resume,
  retry,
  seek,
  setPartitions,
  status,
  subscribe,
} from "../../mod.ts";
import type { Queryable } from "../../mod.ts";
import { join } from "node:path";
import { filesBelow } from "../checks/files.ts";
import { PROJECT, test } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";

const looking: ((db: Queryable) => Promise<unknown>)[] = [
  (db) => status(db),
  (db) => consumers(db),
  (db) => consumerDetails(db, "r"),
];
const operating: ((db: Queryable) => Promise<unknown>)[] = [
  (db) => seek(db, "r", "beginning"),
  (db) => replay(db, "r", { from: 1 }),
  (db) => pause(db, "r"),
  (db) => resume(db, "r"),
  (db) => deadLetters(db),
  (db) => notifications(db),
  (db) => notification(db, 1),
  (db) => logChannels(db),
  (db) => delayedNotifications(db),
  (db) => replayIds(db, [1]),
  (db) => deletions(db),
  (db) => retry(db, "r", { all: true }),
  (db) => discard(db, "r", { all: true }),
  (db) => setPartitions(db, "r", 2),
  (db) => cleanup(db, { olderThan: "1d", dropInactive: "1d" }),
  (db) => deleteNotifications(db, [1], { reason: "a test" }),
  (db) => removeConsumer(db, "r"),
];

test("a role that may operate does all of it and follows the log, and neither publishes nor touches a table", async (context) => {
  await context.sql("select hark.register('r', array['c'])");
  await context.sql("select hark.notify('c')");
  const operator = await role(context);
  await context.sql("select hark.grant_operate($1)", [operator.name]);
  const db = context.use(await connect(operator.url));
  const read = [];
  for await (const { id } of subscribe(db, null, { from: "beginning", follow: false })) {
    read.push(id);
  }
  assert.deepEqual(read, [1]);
  for (const call of [...looking, ...operating]) await call(db);
  const refused = { name: "HarkError", code: "NO_PERMISSION" };
  await assert.rejects(notify(db, "c"), refused);
  for (
    const call of [
      "select * from hark.log",
      "select * from hark.dead",
      "update hark.waiting set attempts = 0",
      "select hark.grant_operate('postgres')",
      "select hark.changed('r')",
      "select hark.dead_matching('r', null, null, null, null, null, null, null, null, null, null)",
    ]
  ) {
    await assert.rejects(db.query(call), refused, call);
  }
});

test("others may not operate, and are told whom to ask", async (context) => {
  await context.sql("select hark.register('r', array['c'])");
  await context.sql("select hark.notify('c')");
  const [publisher, consumer] = [await role(context), await role(context)];
  await context.sql("select hark.grant_publish($1)", [publisher.name]);
  await context.sql("select hark.grant_consume($1)", [consumer.name]);
  const publishes = context.use(await connect(publisher.url));
  const consumes = context.use(await connect(consumer.url));
  const refused = { name: "HarkError", code: "NO_PERMISSION" };
  for (const call of looking) {
    await assert.rejects(call(publishes), { ...refused, remedy: /hark\.grant_/ }, String(call));
    await call(consumes);
  }
  for (const call of operating) {
    await assert.rejects(call(publishes), refused, String(call));
    // Its first statement, hark.rebase(), a consumer may call.
    await assert.rejects(
      call(consumes),
      { ...refused, remedy: /hark\.grant_operate\('\w+'\)/ },
      String(call),
    );
  }
  const stranger = context.use(await connect((await role(context)).url));
  for (const call of [...looking, ...operating]) await assert.rejects(call(stranger), refused);
});

/** The functions of the schema that the modules of a folder call. */
async function called(folder: string): Promise<string[]> {
  const names = new Set<string>();
  for (const path of await filesBelow(join(PROJECT, folder))) {
    const text = await Deno.readTextFile(path);
    // Not in comments, and not where a message advises a call.
    const code = text.replaceAll(/^ *(\/\/|\*|\/\*).*$/gm, "");
    for (const [, called] of code.matchAll(/hark\.([a-z_]+)\(/g)) names.add(called!);
  }
  return [...names].filter((name) => !name.startsWith("grant_")).sort();
}

test("each function that a program calls is granted to whom its right is for, and exists", async ({ sql }) => {
  const granted = async (kind: string): Promise<string[]> =>
    (await sql("select hark.functions_for($1) as names", [kind]))[0].names;
  const existing = (await sql(
    "select distinct proname as name from pg_proc where pronamespace = 'hark'::regnamespace",
  )).map(({ name }) => name);
  for (
    const [folder, right] of [
      ["src/consume", "consume"],
      ["src/publish", "publish"],
      ["src/operate", "operate"],
    ] as const
  ) {
    // Who schedules publishes.
    const publishing = folder === "src/operate" ? ["schedule"] : [];
    const [all, given] = [await called(folder), await granted(right)];
    const needed = all.filter((name) => !publishing.includes(name));
    const published = await granted("publish");
    assert.deepEqual(publishing.filter((name) => !published.includes(name)), []);
    assert(needed.length > 0);
    assert.deepEqual(needed.filter((name) => !given.includes(name)), [], right);
    assert.deepEqual(
      given.filter((name) => !existing.includes(name)),
      [],
      right,
    );
  }
});
