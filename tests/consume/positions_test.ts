/**
 * Positions outside of the database: text that a browser or a file keeps, and from which any process goes
 * on later.
 */

import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type Database,
  type Notification,
  notify,
  subscribe,
  type SubscribeOptions,
  type SubscriptionGap,
  type SubscriptionResume,
} from "../../mod.ts";
import { output } from "../cli/_support/hark.ts";
import { type Client, test, type TestContext } from "../harness/mod.ts";
import { numbers, publish } from "../faults/_support/running.ts";

/** What a subscription to `c` reads until it has come to the end. */
async function readAll(db: Database, options: SubscribeOptions = {}): Promise<Notification[]> {
  const all: Notification[] = [];
  for await (const n of subscribe(db, "c", { follow: false, pageSize: 7, ...options })) all.push(n);
  return all;
}

const payloads = (all: readonly Notification[]) => all.map((n) => n.payload as number);
const sorted = (all: readonly number[]) => [...all].sort((a, b) => a - b);

/**
 * Publishes 1 to 60 in twelve transactions that commit in another order than they began, while a
 * subscription reads between the commits.
 */
async function readLateCommits(context: TestContext, db: Database): Promise<Notification[]> {
  const clients: Client[] = [];
  for (let i = 0; i < 12; i++) {
    const client = await context.client();
    await client.query("begin");
    clients.push(client);
  }
  for (const n of numbers(1, 60)) {
    await clients[n % 12]!.query("select hark.notify('c', to_jsonb($1::int))", [n]);
  }
  const seen: Notification[] = [];
  let from: SubscribeOptions["from"] = "beginning";
  for (const i of [3, 7, 0, 11, 5, 1, 9, 2, 10, 4, 8, 6]) {
    await clients[i]!.query("commit");
    // Each time another subscription, which goes on behind the last.
    const more = await readAll(db, { from });
    seen.push(...more);
    if (more.length > 0) from = { position: more.at(-1)!.position! };
  }
  return seen;
}

test("a subscription goes on behind any position, and late commits are neither lost nor doubled", async (context) => {
  const db = context.use(await connect(context.url));
  const seen = await readLateCommits(context, db);
  assert.deepEqual(sorted(payloads(seen)), numbers(1, 60));
  const positions = seen.map((n) => n.position!);
  assert.deepEqual(positions.toSorted(), positions, "positions sort as text in reading order");
  assert.equal(new Set(positions).size, 60, "each is a position of its own");
  for (const position of positions) {
    assert(position.length <= 200, `${position.length} characters`);
    assert.match(position, /^[0-9a-z.]+$/, "a URL takes it as it is");
  }
  await context.sql("select hark.notify('c', '61')");
  for (const at of [0, 1, 17, 30, 44, 58, 59]) {
    let start: SubscriptionResume | undefined;
    const rest = await readAll(db, {
      from: { position: positions[at]! },
      onResume: (started) => start = started,
    });
    const both = [...payloads(seen.slice(0, at + 1)), ...payloads(rest)];
    assert.deepEqual(sorted(both), numbers(1, 61), `from the position of number ${at}`);
    assert.deepEqual(start, { gap: undefined, repeats: false });
  }
});

test("a position is as good after its marks have been thinned", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  const seen = await readAll(db, { from: "beginning" });
  await publish(context, 21, 25);
  await readAll(db, { from: { position: seen.at(-1)!.position! } });
  await context.sql(
    "update hark.marks set taken_at = taken_at - interval '2 hours' where number > 0",
  );
  await context.sql("select hark.remove_marks(array(select number from hark.marks))");
  await context.sql(
    "delete from hark.marks where number > 0 and number < (select max(number) from hark.marks)",
  );
  for (const at of [0, 10, 19]) {
    let start: SubscriptionResume | undefined;
    const rest = await readAll(db, {
      from: { position: seen[at]!.position! },
      onResume: (started) => start = started,
    });
    assert.deepEqual(payloads(rest), numbers(at + 2, 25));
    assert.equal(start?.repeats, false);
  }
});

test("if many transactions run, a position stays short, and says what may come again once its marks are gone", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("create table unrelated (n integer)");
  for (let i = 0; i < 30; i++) {
    const client = await context.client();
    await client.query("begin; insert into unrelated values (1)");
  }
  await publish(context, 1, 10);
  const seen = await readAll(db, { from: "beginning" });
  const position = seen[4]!.position!;
  assert(position.length <= 200, `${position.length} characters`);
  const start: SubscriptionResume[] = [];
  const options = {
    from: { position },
    onResume: (one: SubscriptionResume) => void start.push(one),
  };
  assert.deepEqual(payloads(await readAll(db, options)), numbers(6, 10));
  await publish(context, 11, 12);
  await context.sql("select hark.cut()");
  await context.sql(
    "delete from hark.marks where number > 0 and number < (select max(number) from hark.marks)",
  );
  const again = payloads(await readAll(db, options));
  assert(numbers(6, 12).every((n) => again.includes(n)), `nothing is lost: ${again}`);
  assert.deepEqual(start.map(({ repeats }) => repeats), [false, true]);
});

test("after a restore to another cluster, a position that names its marks loses nothing", async (context) => {
  const db = context.use(await connect(context.url));
  const late = await context.client();
  await late.query("begin; select hark.notify('c', '1')");
  await context.sql("create table unrelated (n integer)");
  for (let i = 0; i < 30; i++) {
    const client = await context.client();
    await client.query("begin; insert into unrelated values (1)");
  }
  await publish(context, 2, 5);
  const first = await readAll(db, { from: "beginning" });
  await publish(context, 6, 10);
  const seen = await readAll(db, { from: { position: first.at(-1)!.position! } });
  assert.deepEqual(payloads([...first, ...seen]), numbers(2, 10));
  await late.query("commit");
  await publish(context, 11, 12);
  // As a dump restored elsewhere finds itself.
  await context.sql("update hark.install set system_identifier = 1");
  const again = payloads(await readAll(db, { from: { position: seen.at(-1)!.position! } }));
  assert([1, 11, 12].every((n) => again.includes(n)), `nothing is lost: ${again}`);
});

test("what was cleaned behind a position is said, and never skipped in silence", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  const seen = await readAll(db, { from: "beginning" });
  await context.sql("select hark.cut()");
  const gaps: SubscriptionGap[] = [];
  const onGap = (gap: SubscriptionGap) => void gaps.push(gap);
  const last = { from: { position: seen.at(-1)!.position! }, onGap };
  await context.sql("select * from hark.clean('infinity')");
  await publish(context, 21, 22);
  const rest = await readAll(db, { from: { position: seen[9]!.position! }, onGap });
  assert.deepEqual(payloads(rest), [21, 22]);
  assert.deepEqual(gaps, [{ through: seen[19]!.id }]);
  assert.deepEqual(payloads(await readAll(db, { from: "beginning", onGap })), [21, 22]);
  assert.equal(gaps.length, 1, "the beginning is what there is");
  assert.deepEqual(payloads(await readAll(db, last)), [21, 22]);
});

test("a subscription that is slower than cleaning says so", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  const gaps: SubscriptionGap[] = [];
  const seen: number[] = [];
  for await (
    const n of subscribe(db, "c", {
      from: "beginning",
      follow: false,
      pageSize: 5,
      onGap: (gap) => void gaps.push(gap),
    })
  ) {
    seen.push(n.payload);
    if (seen.length === 5) {
      await context.sql("select * from hark.clean('infinity', forced => true)");
    }
  }
  assert.deepEqual(seen, numbers(1, 5));
  assert.deepEqual(gaps, [{ through: 20 }]);
});

test("a text that is no position of this log is refused, with the text and the reason", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const [{ position }] = await readAll(db, { from: "beginning" }) as [Notification];
  const from = (position: unknown) => readAll(db, { from: { position } as { position: string } });
  const cases: [unknown, RegExp][] = [
    ["", /does not look like one/],
    ["x'; drop table", /from\.position is "x'; drop table", .*Give a position unchanged/],
    ["1".repeat(10_000_000), /"1{60}…", which is no position: it is longer than 200/],
    [position!.slice(0, -1), /no position/],
    [`${position}0`, /goes on where it should end/],
    [position!.replace(/\.../, ".zz"), /no position/],
    [position!.replace(/^1......../, "1ffffffff"), /another database/],
    [position!.replace(/\.[0-9a-z]+\.([0-9a-z]+)$/, ".bzzzzzzzzzzz.$1"), /a number that is none/],
    [42, /from\.position is 42/],
  ];
  for (const [text, message] of cases) {
    await assert.rejects(from(text), { code: "BAD_OPTION", message }, String(text).slice(0, 80));
  }
  // Whatever character is changed, it is refused or is a position: no other error comes out.
  for (let i = 0; i < position!.length; i += 9) {
    const changed = `${position!.slice(0, i)}${position![i] === "1" ? "5" : "1"}${
      position!.slice(i + 1)
    }`;
    await from(changed).catch((error) =>
      assert.equal(error.code, "BAD_OPTION", `${changed}: ${error}`)
    );
  }
});

test("a new consumer begins behind a position", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 20);
  const seen = await readAll(db, { from: "beginning" });
  await publish(context, 21, 23);
  const handled: number[] = [];
  const consumer = new Consumer<number>(db, {
    id: "behind",
    channels: "c",
    partitions: 3,
    from: { position: seen[9]!.position! },
    handle: ({ payload, position }) => {
      assert.equal(position, undefined, "the database keeps a consumer's position");
      handled.push(payload);
    },
  });
  await consumer.drain();
  assert.deepEqual(sorted(handled), numbers(11, 23));
});

test("hark tail goes on behind the position of its last line", async ({ url, use }) => {
  const db = use(await connect(url));
  for (const n of numbers(1, 4)) await notify(db, "a", n);
  const tail = async (...args: string[]) =>
    (await output(["tail", "a", "--json", "--limit", "2", ...args], { url })).trim().split("\n")
      .map((line) => JSON.parse(line));
  const first = await tail("--from", "beginning");
  assert.deepEqual(first.map((n) => n.payload), [1, 2]);
  const next = await tail("--from-position", first[1].position);
  assert.deepEqual(next.map((n) => n.payload), [3, 4]);
});
