import assert from "node:assert/strict";
import { connect, Consumer, type Database, deadLetters, notify } from "../../mod.ts";
import { test } from "../harness/mod.ts";
import { formOf } from "./_support/form.ts";
import { visits } from "./_support/visit.ts";

/** An escape, line breaks of both kinds, a tab, a mark of direction, and what looks like an escape. */
const odd = `a\x1b[31m b\nc\r\nd\te \u200f "f" \\u001b`;
const name = encodeURIComponent(odd);

const operator = { authorize: () => ({ name: "ada", role: "operate" as const }) };

/** Dead letters of one consumer: two with an odd channel, key and error, and one with plain ones. */
async function failed(db: Database): Promise<number> {
  const id = await notify(db, odd, { say: odd }, { key: odd });
  await notify(db, odd, {}, { key: odd });
  await notify(db, "plain", {});
  const consumer = new Consumer(db, {
    id: odd,
    channels: [odd, "plain"],
    from: "beginning",
    maxAttempts: 1,
    handle({ channel }) {
      throw new Error(channel === odd ? odd : "no");
    },
  });
  await consumer.drain();
  return id;
}

for (const field of ["error", "channel", "key"]) {
  for (const act of ["retry", "discard"]) {
    test(`${act} of all by a text with control characters, their ${field}, does what the page has promised`, async ({ url, use }) => {
      const db = use(await connect(url));
      await failed(db);
      const { get, post } = visits(db, operator);
      const { text } = await get(`/sure?act=${act}&consumer=${name}&kind=dead&${field}=${name}`);
      assert.match(text, /2 dead letters/);
      const { status, location } = await post(formOf(text, /2 dead letters/));
      assert.equal(status, 303);
      assert.match((await get(location!)).text, /2 notifications of/);
      const left = await deadLetters(db, { consumer: odd });
      assert.deepEqual(left.map(({ channel }) => channel), ["plain"]);
    });
  }
}

test("a consumer whose name has control characters can be paused, moved, replayed and removed", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await failed(db);
  const { get, post } = visits(db, operator);
  const page = `/consumer?name=${name}`;
  const send = async (from: string, which: RegExp, more = {}) => {
    const { status, location } = await post({ ...formOf((await get(from)).text, which), ...more });
    assert.equal(status, 303);
    return (await get(location!)).text;
  };
  assert.match(await send(page, /Pause/), /is paused/);
  assert.match(await send(page, /Resume/), /is resumed/);
  for (
    const [screen, more] of [["seek", { to: "beginning" }], ["replay", { from: "1" }]] as const
  ) {
    // A form that looks first leads to the address of its fields.
    const fields = { ...formOf((await get(page)).text, RegExp(`action="/${screen}"`)), ...more };
    const asked = `/${screen}?${new URLSearchParams(fields)}`;
    assert.match(await send(asked, RegExp(`value="${screen}"`)), /was moved|come again/);
  }
  // It is typed as the page shows it.
  const typed = String.raw`a\u001b[31m b c\u000d d e \u200f "f" \u001b`;
  assert.match(await send(page, /Remove/, { typed: "a" }), /Type a/);
  assert.match(await send(page, /Remove/, { typed }), /was removed/);
  assert.deepEqual(await sql("select from hark.consumers"), []);
});

test("a dead letter whose channel and key have control characters is published anew under both", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  const id = await failed(db);
  const { get, post } = visits(db, operator);
  const form = formOf((await get(`/anew?consumer=${name}&id=${id}`)).text, /Publish/);
  assert.equal((await post(form)).status, 303);
  const [made] = await sql(
    "select channel, key, payload from hark.log where headers ? 'anewOf'",
  );
  assert.deepEqual(made, { channel: odd, key: odd, payload: { say: odd } });
  // What a person breaks is refused, and nothing is published.
  const broken = Object.fromEntries(
    Object.entries(form).map(([field, text]) => [field, field.endsWith("key") ? "no JSON" : text]),
  );
  const { location } = await post(broken);
  assert.match((await get(location!)).text, /key is &quot;no JSON&quot;.*as JSON/);
  const [{ count }] = await sql("select count(*)::int from hark.log where headers ? 'anewOf'");
  assert.equal(count, 1);
});

test("a form that finds by an error with control characters keeps to it", async ({ url, use }) => {
  const db = use(await connect(url));
  await failed(db);
  const { get } = visits(db, operator);
  const page = `/dead?consumer=${name}&error=${name}`;
  const found = formOf((await get(page)).text, /class="filters"/);
  const again = (await get(`/dead?${new URLSearchParams(found)}`)).text;
  assert.deepEqual(formOf(again, /class="filters"/), found);
  assert.equal(again.match(/type="checkbox" name="id"/g)?.length, 2);
});
