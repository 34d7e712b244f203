/** `@hark/postgres/publish`: publishing without a driver, without Node.js, without a right. */

import assert from "node:assert/strict";
import * as root from "../../mod.ts";
import * as alone from "../../src/publish/mod.ts";
import { light } from "../checks/light.ts";
import { spawnDeno, test } from "../harness/mod.ts";
import { drivers } from "./_support/real_drivers.ts";

const { channel, harkError, notifyManyStatement, notifyStatement, setContext } = alone;

Deno.test("it needs no driver, no package, nothing of Node.js, and has at most 15 kB", async () => {
  assert.deepEqual(await light(), []);
});

Deno.test("it needs no right", async () => {
  await using child = spawnDeno(["tests/publish/_support/alone.ts"], {
    permissions: ["--no-lock"],
  });
  const { code, stdout, stderr } = await child.ended();
  assert.equal(code, 0, stderr);
  assert.equal(stdout, "select hark.notify BAD_CHANNEL\n");
});

Deno.test("what it shares with the root module is the same", () => {
  const own = ["harkError", "notifyManyStatement", "notifyStatement", "setContextStatement"];
  for (const [name, value] of Object.entries(alone)) {
    if (!own.includes(name)) assert.equal(value, (root as Record<string, unknown>)[name], name);
  }
});

test("a list of statements publishes with its context and its typed channels", async (context) => {
  await using driver = await drivers["Neon over HTTP"]!(context);
  await context.sql("create table users (id integer primary key, email text)");
  await root.watch(await context.client(), "users", { key: "id" });
  const paid = channel<{ id: string }>("paid").key(({ id }) => id);
  await driver.list!([
    alone.setContextStatement({ userId: 7 }),
    { text: "insert into users values (1, 'a@example.com')", values: [] },
    await notifyStatement(paid, { id: "o-1" }, { headers: { a: 1 } }),
    await notifyStatement("plain"),
    await notifyManyStatement([
      { channel: paid, payload: { id: "o-2" } },
      { channel: "plain", payload: 2, delay: "1h", dedupe: "k" },
    ]),
  ]);
  const log = await context.sql("select channel, payload, key, headers from hark.log order by id");
  assert.deepEqual(log.slice(1), [
    {
      channel: "paid",
      payload: { id: "o-1" },
      key: "o-1",
      headers: { a: 1, userId: 7, "hark-version": 1 },
    },
    { channel: "plain", payload: {}, key: null, headers: { userId: 7 } },
    {
      channel: "paid",
      payload: { id: "o-2" },
      key: "o-2",
      headers: { userId: 7, "hark-version": 1 },
    },
  ]);
  assert.deepEqual([log[0].channel, log[0].headers.userId], ["public.users", 7]);
  assert.equal((await context.sql("select * from hark.delayed")).length, 1);
});

test("over HTTP, a context that would end at once is refused", async (context) => {
  await using driver = await drivers["Neon over HTTP"]!(context);
  await assert.rejects(setContext(driver.db, { userId: 7 }), {
    code: "BAD_OPTION",
    message: /outside of a transaction/,
  });
});

test("a statement is checked before it is sent, and its error has its code", async (context) => {
  await assert.rejects(notifyStatement(""), { code: "BAD_CHANNEL" });
  await assert.rejects(notifyStatement("c", new Map()), { code: "BAD_PAYLOAD" });
  await assert.rejects(notifyManyStatement([{ channel: "c" }, { channel: "c", payload: NaN }]), {
    code: "BAD_PAYLOAD",
    message: /^notifications\[1\]/,
  });
  assert.throws(() => alone.setContextStatement(3 as never), { code: "BAD_PAYLOAD" });
  await using driver = await drivers["Neon over HTTP"]!(context);
  await context.sql("alter schema hark rename to gone");
  const statement = await notifyStatement("c");
  const failed = await driver.list!([statement]).catch(harkError);
  assert.equal((failed as alone.HarkError).code, "NO_SCHEMA");
});
