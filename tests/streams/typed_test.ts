/** Streams of typed channels: what pages get of payloads of each version. */

import assert from "node:assert/strict";
import { z } from "npm:zod@4.6.7";
import { channel, connect, type Database, notify } from "../../mod.ts";
import { streams } from "../../src/streams/mod.ts";
import { same } from "../changes/_support/typed.ts";
import { said } from "../faults/_support/logs.ts";
import { test, until } from "../harness/mod.ts";
import { Events, serve } from "./_support/serve.ts";

const at = z.iso.datetime().transform((text) => new Date(text));
const V1 = z.object({ id: z.string(), at });
const V2 = z.object({ id: z.string(), at, currency: z.string() });
const first = channel("orders", V1);
const second = channel("orders", V2)
  .from(V1, (old) => ({ ...old, at: old.at.toISOString(), currency: "EUR" }));
const slow = channel(
  "orders",
  V2.refine(async () => {
    await Promise.resolve();
    return true;
  }),
).from(V1, (old) => Promise.resolve({ ...old, at: old.at.toISOString(), currency: "EUR" }));
const time = "2026-11-29T12:00:00Z";

/** Compiled and never called. */
export function compiled(db: Database): void {
  const authorize = () => true;
  streams(db, {
    channels: second,
    authorize,
    message: ({ payload }) => same<typeof payload, { id: string; at: Date; currency: string }>(),
  });
  streams(db, {
    channels: [first, second],
    authorize,
    // @ts-expect-error: no such field
    message: ({ payload }) => payload.nonexistent,
  });
  streams(db, { channels: ["a", second], authorize, message: ({ payload }) => payload.anything });
  streams(db, { channels: null, authorize, message: ({ payload }) => payload.anything });
  streams(db, {
    route: () => ({ channels: "a" }),
    authorize,
    message: ({ payload }) => payload.anything,
  });
}

async function publishBoth(db: Database): Promise<void> {
  await first.notify(db, { id: "1", at: time });
  await second.notify(db, { id: "2", at: time, currency: "CHF" });
}

for (const [kind, orders] of [["at once", second], ["asynchronously", slow]] as const) {
  test(`a page gets each version as the newest, by a schema that checks ${kind}`, async (context) => {
    const db = context.use(await connect(context.url));
    await publishBoth(db);
    const { url } = context.use(serve(db, { channels: orders }));
    const wanted = [
      { id: "1", at: "2026-11-29T12:00:00.000Z", currency: "EUR" },
      { id: "2", at: time, currency: "CHF" },
    ];
    assert.deepEqual(await (await fetch(`${url}?offset=-1`)).json(), wanted);
    const live = context.use(new Events(`${url}?offset=-1`));
    await until(() => live.messages.length === 2);
    assert.deepEqual(live.messages, wanted);
  });

  test(`a message is made of what a schema that checks ${kind} makes`, async (context) => {
    const db = context.use(await connect(context.url));
    await publishBoth(db);
    const handle = streams(db, {
      channels: orders,
      authorize: () => ({ filter: ({ payload }) => payload.currency === "EUR" }),
      message: ({ payload }) => [payload.id, payload.at.getUTCFullYear(), payload.currency],
    });
    const response = await handle(new Request("http://localhost/?offset=-1"));
    assert.deepEqual(await response.json(), [["1", 2026, "EUR"]]);
  });
}

test("what fits no version, or is newer than the program, is left out with a warning", async (context) => {
  const db = context.use(await connect(context.url));
  const since = Date.now();
  await notify(db, "orders", { id: 5 });
  await second.notify(db, { id: "2", at: time, currency: "CHF" });
  await first.notify(db, { id: "3", at: time });
  const { url } = context.use(serve(db, { channels: first }));
  assert.deepEqual(await (await fetch(`${url}?offset=-1`)).json(), [{ id: "3", at: time }]);
  await said("warning", /orders #1 cannot be read, and is left out: .*fits no version/, since);
  await said("warning", /orders #2 cannot be read, and is left out: .*up to version 1/, since);
});

test("clients whose channels have other types get each their own", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, {
    route: (request) => ({ channels: request.url.includes("/typed") ? second : "orders" }),
  }));
  const typed = context.use(new Events(`${url}typed`));
  const plain = context.use(new Events(`${url}plain`));
  await Promise.all([typed.response, plain.response]);
  await first.notify(db, { id: "1", at: time });
  await until(() => typed.messages.length === 1 && plain.messages.length === 1);
  assert.deepEqual(typed.messages, [{ id: "1", at: "2026-11-29T12:00:00.000Z", currency: "EUR" }]);
  assert.deepEqual(plain.messages, [{ id: "1", at: time }]);
});
