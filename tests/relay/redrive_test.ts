/** Two redrives of an inbox at once: each dead letter is published by one of them. */

import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { redriveIn } from "../../src/inbox/dead_in_short.ts";
import { redrive } from "../../src/inbox/mod.ts";
import { deferred, test, type TestContext, waitsFor } from "../harness/mod.ts";

/** An inbox with two dead letters, 1 and 2. */
async function deadLetters({ sql, url, use }: TestContext) {
  await sql("select hark.inbox_place('in', 'the stream SHOP', 0)");
  const dead = [1, 2].map((sequence) => ({
    sequence,
    subject: "shop",
    headers: {},
    body: btoa(String(sequence)),
    reason: "there was no such table",
  }));
  await sql("select hark.inbox_take('in', 'the stream SHOP', 0, 2, $1::json)", [
    JSON.stringify(dead),
  ]);
  return use(await connect(url));
}

const inLog = async ({ sql }: TestContext) =>
  (await sql("select payload from hark.log order by id")).map(({ payload }) => payload);

test("two redrives of an inbox at once publish each dead letter once", async (context) => {
  const db = await deadLetters(context);
  const both = deferred();
  let calls = 0;
  const map = async ({ sequence }: { readonly sequence: number }) => {
    if (++calls === 2) both.resolve();
    await both.wait(); // both have read the first dead letter
    return { channel: "late", payload: sequence };
  };
  const done = await Promise.all([redrive(db, "in", { map }), redrive(db, "in", { map })]);
  assert.deepEqual((await inLog(context)).sort(), [1, 2]);
  assert.equal(done[0].published + done[1].published, 2);
  assert.deepEqual(done.flatMap(({ left }) => left), []);
});

test("a redrive on the dashboard leaves out what another one publishes at that moment", async (context) => {
  const db = await deadLetters(context);
  const first = await context.client();
  await first.query("begin");
  await redriveIn(first, "in", 1);
  const one = db.transaction((tx) => redriveIn(tx, "in", 1));
  const all = db.transaction((tx) => redriveIn(tx, "in", undefined));
  one.catch(() => {}); // it is looked at below
  await waitsFor(first, "inbox_settle");
  await first.query("commit");
  await assert.rejects(one, /the inbox "in" has no dead letter 1/);
  assert.deepEqual(await all, { published: 1, repeated: 0, left: 0, reason: "" });
  assert.deepEqual(await inLog(context), [1, 2]);
});
