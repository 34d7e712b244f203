import assert from "node:assert/strict";
import { connect, Consumer } from "../../mod.ts";
import { test } from "../harness/mod.ts";
import { visits } from "./_support/visit.ts";

test("numbers keep their digits on pages, and when a dead letter is published anew", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  const exact = { n: "12345678901234567891", price: "0.1000000000000000055511151231257827" };
  const text = `{"n": ${exact.n}, "price": ${exact.price}, "long": "${"x".repeat(70_000)}"}`;
  await sql("select hark.notify('c', $1::jsonb, headers => $2::jsonb)", [
    text,
    `{"h": ${exact.n}}`,
  ]);
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    from: "beginning",
    maxAttempts: 1,
    handle() {
      throw new Error("no");
    },
  });
  await consumer.drain();
  const { get, post } = visits(db, { authorize: () => ({ name: "ada", role: "operate" }) });
  for (const path of ["/log?show=payload", "/notification?id=1&show=payload"]) {
    const { text } = await get(path);
    assert.ok(text.includes(exact.n), path);
  }
  assert.match((await get(`/log?contains={"n":${exact.n}}`)).text, /notification\?id=1"/);
  assert.doesNotMatch((await get(`/log?contains={"n":12345678901234567000}`)).text, /\?id=1"/);
  const form = (await get("/anew?consumer=c&id=1")).text;
  const field = (name: string) =>
    new RegExp(`<textarea name="${name}"[^>]*>([^<]*)`).exec(form)![1]!.replaceAll("&quot;", '"');
  const done = await post({
    act: "publish",
    token: /name="token" value="([^"]+)"/.exec(form)![1]!,
    original: "1",
    channel: "c",
    payload: field("payload"),
    headers: field("headers"),
    back: "/dead?consumer=c",
  });
  assert.equal(done.status, 303);
  // Any longer one is left to a program.
  await sql("select hark.notify('c', to_jsonb(repeat('x', 1000001)))");
  await consumer.drain();
  const [{ max: last }] = await sql("select max(id)::int from hark.log");
  assert.match((await get(`/anew?consumer=c&id=${last}`)).text, /too large for a form/);
  const [same] = await sql(
    `select b.payload = a.payload as payload, b.headers ->> 'h' as h
      from hark.log a, hark.log b where a.id = 1 and b.id = 2`,
  );
  assert.deepEqual(same, { payload: true, h: exact.n });
});
