/** The log can be looked at: pages, one notification, delayed ones, and reprocessing chosen ones. */

import assert from "node:assert/strict";
import {
  cancelDelayed,
  connect,
  Consumer,
  delayedNotifications,
  notification,
  notifications,
  type NotificationsOptions,
  notify,
  notifyMany,
  replayIds,
} from "../../mod.ts";
import { test, until } from "../harness/mod.ts";

const seeds = [
  { channel: "orders", payload: { id: 1, city: "Bern" }, key: "ada" },
  { channel: "mail", payload: { to: "bob" }, headers: { by: "crm" } },
  { channel: "orders", payload: { id: 2, city: "Basel", tags: ["x"] }, key: "bob" },
  { channel: "stock", payload: "plain 100% text" },
  { channel: "orders", payload: { id: 3, city: "Bern" }, key: "ada" },
];

test("the log is listed newest first, and filtered by channel, key, content, text, id and time", async ({ url, use }) => {
  const db = use(await connect(url));
  await notifyMany(db, seeds);
  const ids = async (options: NotificationsOptions) =>
    (await notifications(db, options)).notifications.map(({ id }) => id);
  const page = await notifications(db);
  assert.deepEqual(page.notifications.map(({ id }) => id), [5, 4, 3, 2, 1]);
  assert.deepEqual([page.looked, page.lookedThrough, page.more], [5, 1, false]);
  const mail = page.notifications[3]!;
  assert.deepEqual(
    [mail.channel, mail.key, mail.payload, mail.headers, mail.problem],
    ["mail", null, { to: "bob" }, { by: "crm" }, null],
  );
  assert(mail.bytes > 10 && mail.bytes < 100 && mail.createdAt instanceof Date);
  const noon = new Date(Date.now() + 3_600_000);
  for (
    const [options, expected] of [
      [{ newestFirst: false }, [1, 2, 3, 4, 5]],
      [{ channels: "orders" }, [5, 3, 1]],
      [{ channels: ["mail", "stock"] }, [4, 2]],
      [{ key: "ada" }, [5, 1]],
      [{ contains: { city: "Bern" } }, [5, 1]],
      [{ contains: { tags: ["x"] } }, [3]],
      [{ search: '"city": "Ba' }, [3]],
      [{ search: "100%" }, [4]],
      [{ search: "bern" }, []],
      [{ from: 3 }, [5, 4, 3]],
      [{ to: 3 }, [3, 2, 1]],
      [{ from: 2, to: 4, channels: "orders" }, [3]],
      [{ to: noon }, [5, 4, 3, 2, 1]],
      [{ from: noon }, []],
      [{ to: new Date(0) }, []],
      [{ from: new Date(0), key: "bob" }, [3]],
      [{ limit: 2 }, [5, 4]],
      [{ before: 4, limit: 2 }, [3, 2]],
      [{ before: 1 }, []],
      [{ after: 3, newestFirst: false }, [4, 5]],
      [{ channels: "nowhere" }, []],
    ] as [NotificationsOptions, number[]][]
  ) {
    assert.deepEqual(await ids(options), expected, JSON.stringify(options));
  }
});

test("a time finds what was published then, also where the log has holes", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await sql(`insert into hark.log (channel, payload, created_at)
    select 'c', to_jsonb(n), '2026-01-01'::timestamptz + n * interval '1 minute' from generate_series(1, 300) n`);
  await sql("delete from hark.log where id between 50 and 120 or id > 290");
  const at = (minute: number) => new Date(Date.UTC(2026, 0, 1, 0, minute));
  const ids = async (options: NotificationsOptions) => {
    const { notifications: found, looked } = await notifications(db, { ...options, limit: 10_000 });
    return { ids: found.map(({ id }) => id), looked };
  };
  const zone =
    (await sql("select extract(epoch from '2026-01-01'::timestamptz) * 1000 as ms"))[0].ms;
  const shift = Number(zone) - Date.UTC(2026, 0, 1);
  const moved = (minute: number) => new Date(at(minute).getTime() + shift);
  assert.deepEqual(await ids({ from: moved(48), to: moved(122) }), {
    ids: [122, 121, 49, 48],
    looked: 4,
  });
  assert.deepEqual((await ids({ from: moved(289) })).ids, [290, 289]);
  assert.deepEqual((await ids({ to: moved(2), newestFirst: false })).ids, [1, 2]);
});

test("a page of a rare channel ends soon, says how far it looked, and the pages together find all", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await sql(`insert into hark.log (channel, payload)
    select case when n % 4000 = 7 then 'rare' else 'often' end, to_jsonb(n) from generate_series(1, 10000) n`);
  for (const newestFirst of [true, false]) {
    const found: number[] = [];
    let edge: number | undefined;
    let pages = 0;
    for (let more = true; more; pages++) {
      const page: Awaited<ReturnType<typeof notifications>> = await notifications(db, {
        channels: "rare",
        maxScanned: 3000,
        newestFirst,
        ...(edge === undefined ? {} : newestFirst ? { before: edge } : { after: edge }),
      });
      assert(page.looked <= 3000);
      found.push(...page.notifications.map(({ id }) => id));
      edge = page.lookedThrough;
      more = page.more;
    }
    assert.equal(pages, 4);
    assert.deepEqual(found.toSorted((a, b) => a - b), [7, 4007, 8007]);
  }
  const first = await notifications(db, { channels: "rare", maxScanned: 1000 });
  assert.deepEqual([first.looked, first.lookedThrough, first.more], [1000, 9001, true]);
  // A page that is full says the last one it has, although it looked at more.
  const full = await notifications(db, { channels: "often", limit: 3 });
  assert.deepEqual([full.notifications.length, full.lookedThrough, full.more], [3, 9998, true]);
});

test("a notification that cannot be read spoils no page", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await notifyMany(db, [{ channel: "c", payload: { a: 1 } }, { channel: "c", payload: { a: 2 } }]);
  await sql(
    `insert into hark.log (channel, payload) values ('c', to_jsonb(repeat('x', 70000000)))`,
  );
  const { notifications: found } = await notifications(db, { channels: "c" });
  assert.deepEqual(found.map(({ id, payload }) => [id, payload]), [
    [3, null],
    [2, { a: 2 }],
    [1, { a: 1 }],
  ]);
  assert.match(found[0]!.problem!, /over 64 MB/);
  assert.equal((await notification(db, 3))!.problem, "its payload is over 64 MB");
});

test("one notification shows what became of it at each consumer", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  for (
    const [name, channels, filter] of [
      ["behind", "orders", null],
      ["done", "orders", null],
      ["gave-up", "orders", null],
      ["mails", "mail", null],
      ["picky", "orders", '{"payload": {"city": "Basel"}}'],
      ["retries", "orders", null],
    ]
  ) {
    await sql("select hark.register($1, array[$2], 'beginning', filter => $3::jsonb)", [
      name,
      channels,
      filter,
    ]);
  }
  await notifyMany(db, seeds);
  const failing = (id: string, maxAttempts: number) =>
    new Consumer(db, {
      id,
      channels: "orders",
      maxAttempts,
      retry: { initial: 600_000 },
      handle({ id: number }) {
        if (number === 1) throw new Error("out of paper");
      },
    });
  await new Consumer(db, { id: "done", channels: "orders", handle() {} }).drain();
  await failing("gave-up", 1).drain();
  const running = failing("retries", 5);
  const drained = running.drain().catch(() => {});
  const found = async () => (await notification(db, 1))!;
  await until(
    async () => (await found()).consumers.at(-1)!.verdict === "waiting",
    { what: "notification 1 to wait" },
  );
  await running.stop();
  await drained;
  const one = await found();
  assert.deepEqual(
    [one.id, one.channel, one.key, one.payload, one.inLog],
    [1, "orders", "ada", { id: 1, city: "Bern" }, true],
  );
  assert.deepEqual(
    one.consumers.map(({ consumer, verdict, attempts, error }) => [
      consumer,
      verdict,
      attempts,
      error,
    ]),
    [
      ["behind", "unread", 0, null],
      ["done", "handled", 0, null],
      ["gave-up", "dead", 1, "out of paper"],
      ["mails", "foreign", 0, null],
      ["picky", "filtered", 0, null],
      ["retries", "waiting", 1, "out of paper"],
    ],
  );
  const waiting = one.consumers.at(-1)!;
  assert.equal(waiting.state, "failed");
  assert(waiting.nextAttemptAt!.getTime() > Date.now() + 60_000 && waiting.failedAt !== null);
  const next = (await notification(db, 5))!.consumers.find((c) => c.consumer === "retries")!;
  assert.deepEqual([next.verdict, next.state, next.nextAttemptAt], ["waiting", "behind", null]);
  // What cleanup removed is still shown from the dead letter.
  await sql("delete from hark.log where id = 1");
  const kept = await found();
  assert.deepEqual([kept.inLog, kept.payload], [false, { id: 1, city: "Bern" }]);
  assert.equal(kept.consumers[1]!.verdict, "absent");
  assert.equal(await notification(db, 77), null);
});

test("chosen notifications come again, for one consumer or for all that read them", async ({ url, sql, use }) => {
  const db = use(await connect(url));
  await notifyMany(db, seeds);
  const handled: string[] = [];
  let broken = true;
  const consumer = (id: string, channels: string) =>
    new Consumer(db, {
      id,
      channels,
      from: "beginning",
      maxAttempts: 1,
      handle({ id: number }) {
        if (broken && id === "fails" && number === 3) throw new Error("no");
        handled.push(`${id} ${number}`);
      },
    });
  const all = [consumer("all", "orders"), consumer("fails", "orders"), consumer("mails", "mail")];
  for (const one of all) await one.drain();
  await sql("select hark.register('late', array['orders'], 'beginning')");
  handled.length = 0;
  broken = false;
  assert.deepEqual(await replayIds(db, [3, 5, 2, 3]), [
    { consumer: "all", id: 3, place: "handled", again: true },
    { consumer: "all", id: 5, place: "handled", again: true },
    { consumer: "fails", id: 3, place: "dead", again: true },
    { consumer: "fails", id: 5, place: "handled", again: true },
    { consumer: "late", id: 3, place: "unread", again: false },
    { consumer: "late", id: 5, place: "unread", again: false },
    { consumer: "mails", id: 2, place: "handled", again: true },
  ]);
  for (const one of all) await one.drain();
  assert.deepEqual(handled.toSorted(), ["all 3", "all 5", "fails 3", "fails 5", "mails 2"]);
  await sql("insert into hark.dead (consumer, id, attempts) values ('all', 900, 3)");
  assert.deepEqual(await replayIds(db, [900]), [
    { consumer: "all", id: 900, place: "dead", again: false },
  ]);
  assert.deepEqual(await replayIds(db, [1, 2, 99], { consumer: "all" }), [
    { consumer: "all", id: 1, place: "handled", again: true },
    { consumer: "all", id: 2, place: "foreign", again: false },
    { consumer: "all", id: 99, place: "absent", again: false },
  ]);
  await assert.rejects(replayIds(db, [1], { consumer: "unknown" }), { code: "NO_CONSUMER" });
  for (const ids of [[], [0], [1.5], 7 as never]) {
    await assert.rejects(replayIds(db, ids), { code: "BAD_OPTION" });
  }
});

test("delayed notifications are listed by when they are due, page by page", async ({ url, use }) => {
  const db = use(await connect(url));
  for (const [key, delay] of [["c", 9e6], ["a", 7e6], ["b", 8e6], ["a", 9e6]] as const) {
    await notify(db, key === "b" ? "mail" : "orders", { key }, { key, delay });
  }
  const all = await delayedNotifications(db);
  assert.deepEqual(all.map(({ number }) => number), [2, 3, 1, 4]);
  assert.deepEqual([all[1]!.channel, all[1]!.key, all[1]!.payload], ["mail", "b", { key: "b" }]);
  assert(all[0]!.deliverAt < all[3]!.deliverAt && all[0]!.owner !== "");
  const numbers = async (options: Parameters<typeof delayedNotifications>[1]) =>
    (await delayedNotifications(db, options)).map(({ number }) => number);
  assert.deepEqual(await numbers({ channel: "orders", key: "a" }), [2, 4]);
  assert.deepEqual(await numbers({ limit: 2 }), [2, 3]);
  assert.deepEqual(await numbers({ limit: 2, after: 3 }), [1, 4]);
  assert.deepEqual(await numbers({ limit: 2, after: 4 }), []);
  assert(await cancelDelayed(db, 3));
  // Not the first page once more.
  await assert.rejects(numbers({ limit: 2, after: 3 }), {
    code: "BAD_OPTION",
    message: /notification 3 is not delayed .*\. Begin again without it/,
  });
});

test("a wrong filter is refused with its value, its reason and its remedy", async ({ url, use }) => {
  const db = use(await connect(url));
  for (
    const [options, sentence] of [
      [{ limit: 0 }, /limit is 0/],
      [{ maxScanned: 2_000_000 }, /maxScanned is 2000000/],
      [{ from: -1 }, /from is -1/],
      [{ to: new Date(NaN) }, /to is/],
      [{ channels: [] }, /channels is/],
      [{ key: 7 }, /key is 7/],
      [{ search: "" }, /search is/],
      [{ newestFirst: 1 }, /newestFirst is 1/],
      [{ chanels: "a" }, /Did you mean channels/],
    ] as [NotificationsOptions, RegExp][]
  ) {
    await assert.rejects(notifications(db, options), { name: "HarkError", message: sentence });
  }
  await assert.rejects(notifications(db, { contains: 1n << 70n }), { name: "HarkError" });
  await assert.rejects(notification(db, 0), { code: "BAD_OPTION" });
});
