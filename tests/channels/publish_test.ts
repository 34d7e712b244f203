import assert from "node:assert/strict";
import { z } from "npm:zod@4.6.7";
import {
  channel,
  connect,
  Consumer,
  HarkError,
  type NewNotification,
  notify,
  notifyMany,
  on,
  type Schedule,
  schedule,
  schedules,
} from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { first, orders, second } from "./_support/orders.ts";

const given = {
  id: "o-1",
  at: "2026-11-29T12:00:00.000Z",
  tags: ["a", "b"],
  cents: "12345678901234567890",
};
const stored = "select channel, key, payload, headers from hark.log order by id";

for (const [library, typed] of Object.entries(orders)) {
  test(`what does not fit a schema of ${library} is refused with its path, and nothing is written`, async (context) => {
    const db = context.use(await connect(context.url));
    const wrong = { ...given, tags: ["a", 5], cents: "x" } as never;
    for (
      const publish of [
        () => typed.notify(db, wrong),
        () => notify(db, typed, wrong),
        () => notify(db, typed, wrong, { delay: "1h" }),
        () => notifyMany(db, [{ channel: "plain" }, { channel: typed, payload: wrong }]),
        () => notifyMany(db, [{ channel: typed } as NewNotification]),
        () => schedule(db, "s", "0 3 * * *", { channel: typed, payload: wrong }),
        () => schedule(db, "s", "0 3 * * *", { channel: typed }),
      ]
    ) {
      await assert.rejects(publish, (error) => {
        assert(error instanceof HarkError);
        assert.equal(error.code, "BAD_PAYLOAD");
        assert.match(
          error.message,
          /"orders" does not fit version 1 of its schema: .*\b(tags\.1|id)\b/,
        );
        assert((error.cause as unknown[]).length > 0);
        return true;
      });
    }
    assert.deepEqual(await context.sql("select from hark.log"), []);
    assert.equal(await typed.notify(db, given), await lastId(context.sql));
    assert.deepEqual(await context.sql(stored), [
      { channel: "orders", key: null, payload: given, headers: { "hark-version": 1 } },
    ]);
  });
}

async function lastId(sql: (text: string) => Promise<{ id?: unknown }[]>): Promise<number> {
  return Number((await sql("select max(id) as id from hark.log"))[0]!.id);
}

test("a typed channel writes its version and its key, and the caller's headers beside them", async (context) => {
  const db = context.use(await connect(context.url));
  await second.notify(db, { id: "7", total: 1, currency: "EUR" }, { headers: { by: "me" } });
  await notifyMany(db, [
    { channel: second, payload: { id: "8", total: 1, currency: "EUR" } },
    { channel: second, payload: { id: "8", total: 1, currency: "EUR" }, key: "other" },
    { channel: "plain", payload: 1 },
    { channel: first, payload: { id: "9", total: 1 }, key: null },
  ]);
  const rows = await context.sql("select key, headers from hark.log order by id");
  assert.deepEqual(rows, [
    { key: "7", headers: { by: "me", "hark-version": 2 } },
    { key: "8", headers: { "hark-version": 2 } },
    { key: "other", headers: { "hark-version": 2 } },
    { key: null, headers: null },
    { key: null, headers: { "hark-version": 1 } },
  ]);
  const misspelt = first.key((order) => (order as unknown as { no: string }).no);
  await assert.rejects(misspelt.notify(db, { id: "9", total: 1 }), {
    code: "BAD_PAYLOAD",
    message: /the key of channel "orders.paid" is undefined/,
  });
  // Headers of another notification may be passed on.
  await first.notify(db, { id: "9", total: 1 }, { headers: { "hark-version": 7, by: "me" } });
  const [last] = await context.sql("select headers from hark.log order by id desc limit 1");
  assert.deepEqual(last, { headers: { by: "me", "hark-version": 1 } });
  await assert.rejects(
    first.notify(db, { id: "9", total: 1 }, { headers: [] as never }),
    { code: "BAD_PAYLOAD", message: /headers \[\] is not an object/ },
  );
});

test("what is checked is the JSON that is stored, so that each notification can be read", async (context) => {
  const db = context.use(await connect(context.url));
  const unreadable = channel("a", z.object({ at: z.date() }));
  await assert.rejects(
    unreadable.notify(db, { at: new Date() }),
    /at: .*The value itself fits, but its JSON does not/,
  );
  const readable = channel(
    "a",
    z.object({ at: z.coerce.date<Date>(), none: z.string().optional() }),
  );
  await readable.notify(db, { at: new Date(5), none: undefined });
  assert.deepEqual((await context.sql(stored))[0].payload, { at: "1970-01-01T00:00:00.005Z" });
});

Deno.test("what is no schema, no upgrade or no key is refused at once", () => {
  assert.throws(() => channel("", z.string()), { code: "BAD_CHANNEL" });
  assert.throws(() => channel("a", {} as never), { code: "BAD_OPTION", message: /schema is/ });
  assert.throws(() => channel("a", undefined as never), { code: "BAD_OPTION" });
  assert.throws(() => first.from({} as never, (old) => old as never), { code: "BAD_OPTION" });
  assert.throws(() => first.from(z.string(), undefined as never), { code: "BAD_OPTION" });
  assert.throws(() => first.key("id" as never), { code: "BAD_OPTION" });
});

test("a schedule of a typed channel publishes what a later version of the program can read", async (context) => {
  const db = context.use(await connect(context.url));
  await schedule(db, "hourly", "0 * * * *", {
    channel: first,
    payload: { id: "1", total: 5 },
    headers: { by: "me" },
  });
  const [{ channel, payload, key, headers }] = await schedules(db) as [Schedule];
  assert.deepEqual({ channel, payload, key, headers }, {
    channel: "orders.paid",
    payload: { id: "1", total: 5 },
    key: "1",
    headers: { by: "me", "hark-version": 1 },
  });
  await context.sql("update hark.schedules set next_at = date_trunc('second', now())");
  const seen: unknown[] = [];
  const handle = on(second, (order, { key }) => void seen.push([order, key]));
  await until(async () => await new Consumer(db, { id: "c", handle }).drain() === 1);
  assert.deepEqual(seen, [[{ id: "1", total: 5, currency: "EUR" }, "1"]]);
});
