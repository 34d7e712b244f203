import assert from "node:assert/strict";
import { connect, Consumer, deadLetters, type HarkError, notify } from "../../mod.ts";
import { acts } from "../../src/operate/acts.ts";
import { dashboard, type ShownNotification, type Visitor } from "../../src/dashboard/mod.ts";
import { test } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";
import { visits } from "./_support/visit.ts";

const ada: Visitor = { name: "ada", role: "operate" };
const page = "/consumer?name=billing";

test("a form acts once with the token of a page, and the record names the visitor", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await sql("select hark.register('billing', array['orders'])");
  const { get, post, token } = visits(db, { authorize: () => ada });
  const done = await post({
    act: "pause",
    consumer: "billing",
    token: await token(page),
    back: page,
  });
  assert.equal(done.status, 303);
  const { text } = await get(done.location!);
  assert.match(text, /&quot;billing&quot; is paused/);
  // An address shows its message once, and to one visitor.
  assert.doesNotMatch((await get(done.location!)).text, /is paused</);
  const [act] = await acts(db);
  assert.deepEqual([act!.what, act!.about, act!.person, typeof act!.role], [
    "pause",
    "billing",
    "ada",
    "string",
  ]);
});

test("a form of another site, without a token, with another visitor's or a made up one, does nothing", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await sql("select hark.register('billing', array['orders'])");
  let visitor = ada;
  const { post, token, handler } = visits(db, { authorize: () => visitor });
  const good = await token(page);
  const fields = { act: "pause", consumer: "billing", token: good };
  const refused = async (sent: Record<string, string>, headers?: Record<string, string>) =>
    assert.equal((await post(sent, headers)).status, 403, JSON.stringify([sent, headers]));
  await refused(fields, { "sec-fetch-site": "cross-site" });
  await refused(fields, { "sec-fetch-site": "same-site" });
  await refused(fields, { origin: "https://evil.example" });
  await refused(fields, { origin: "null" });
  await refused(fields, {});
  await refused({ ...fields, token: "" });
  await refused({ ...fields, token: good.replace(/.$/, (last) => last === "0" ? "1" : "0") });
  await refused({ ...fields, token: `1.${good.split(".")[1]}` });
  visitor = { name: "eve", role: "operate" };
  await refused(fields);
  visitor = ada;
  const got = await handler(new Request(`http://hark.test/act?${new URLSearchParams(fields)}`));
  assert.equal(got.status, 405);
  assert.deepEqual(await sql("select from hark.consumers where paused_at is not null"), []);
  // An older browser sends the origin alone.
  assert.equal((await post(fields, { origin: "http://hark.test" })).status, 303);
});

test("who may only look cannot act, by a page or by a request made by hand", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await sql("select hark.register('billing', array['orders'])");
  let visitor = ada;
  const { get, post, token } = visits(db, { authorize: () => visitor });
  const good = await token(page);
  visitor = { name: "ada", role: "read" };
  for (const path of [page, "/dead?consumer=billing", "/server", "/later"]) {
    assert.doesNotMatch((await get(path)).text, /method="post"/, path);
  }
  for (
    const path of [
      "/seek?name=billing&to=now",
      "/sure?act=discard&consumer=billing&all=1",
      "/anew?consumer=billing&id=1",
    ]
  ) {
    assert.match((await get(path)).text, /You may look, and not act/, path);
  }
  assert.equal((await post({ act: "pause", consumer: "billing", token: good })).status, 403);
  const still = visits(db, { authorize: () => ada, readOnly: true, secret: "s".repeat(32) });
  const open = visits(db, { authorize: () => ada, secret: "s".repeat(32) });
  const valid = await open.token(page);
  assert.equal((await still.post({ act: "pause", consumer: "billing", token: valid })).status, 403);
  assert.equal(await still.token(page), "");
  assert.deepEqual(await acts(db), []);
});

test("the server refuses a database role that may not operate, whatever the page says", async (context) => {
  await context.sql("select hark.register('billing', array['orders'])");
  const { name, url: reader } = await role(context);
  await context.sql("select hark.grant_consume($1)", [name]);
  const reading = context.use(await connect(reader));
  const operating = context.use(await connect(context.url));
  const secret = "s".repeat(32);
  const weak = visits(reading, { authorize: () => ada, secret });
  const token = await visits(operating, { authorize: () => ada, secret }).token(page);
  for (const path of ["/", "/consumers", page, "/watches", "/workers"]) {
    const { status, text } = await weak.get(path);
    assert.equal(status, 200, `${path}: ${text}`);
    assert.doesNotMatch(text, /method="post"/);
  }
  assert.equal((await weak.get("/log")).status, 403);
  const { status, text } = await weak.post({ act: "pause", consumer: "billing", token });
  assert.equal(status, 403);
  assert.match(text, /grant_operate/);
});

test("a visitor looks only with the leave of authorize, and may be sent to a login instead", async ({ url, use }) => {
  const db = use(await connect(url));
  let answer: Visitor | Response | null = null;
  const { get, post } = visits(db, { authorize: () => answer });
  for (const path of ["/", "/log", "/live?page=/", "/nothing"]) {
    assert.equal((await get(path)).status, 403);
  }
  assert.equal((await post({ act: "pause", consumer: "billing" })).status, 403);
  answer = new Response("log in", { status: 401 });
  assert.equal((await get("/")).status, 401);
  answer = { name: "", role: "read" };
  assert.match((await get("/")).text, /Have authorize return a name/);
});

test("payloads are hidden until asked for, and redact decides what is shown then", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  const id = await notify(db, "people", { mail: "ada@example.org" }, {
    key: "lovelace",
    headers: { ip: "10.0.0.1", traceparent: `00-${"ab".repeat(16)}-${"cd".repeat(8)}-01` },
  });
  const { get } = visits(db, { authorize: () => ada });
  for (const path of ["/log", `/notification?id=${id}`]) {
    assert.doesNotMatch((await get(path)).text, /example\.org|10\.0\.0\.1/);
    assert.match(
      (await get(`${path}${path.includes("?") ? "&" : "?"}show=payload`)).text,
      /ada@example\.org/,
    );
  }
  const consumer = new Consumer(db, {
    id: "c",
    channels: "people",
    from: "beginning",
    maxAttempts: 1,
    handle() {
      throw new Error("no");
    },
  });
  await consumer.drain();
  assert.equal((await deadLetters(db)).length, 1);
  const waiting = new Consumer(db, {
    id: "w",
    channels: "people",
    from: "beginning",
    retry: { initial: "1h" },
    handle() {
      throw new Error("no");
    },
  });
  await waiting.drain({ limit: 1 });
  const hiding = visits(db, {
    authorize: () => ada,
    redact: (one) => ({ ...one, key: "…", payload: "left out", headers: {} }),
  });
  for (
    const path of [
      "/log?show=payload",
      `/notification?id=${id}&show=payload`,
      "/dead?consumer=c",
      "/consumer?name=w",
      `/anew?consumer=c&id=${id}`,
    ]
  ) {
    const { text } = await hiding.get(path);
    assert.doesNotMatch(text, /example\.org|10\.0\.0\.1|lovelace|abab/, path);
  }
  assert.match((await hiding.get(`/anew?consumer=c&id=${id}`)).text, /may not be shown/);
  await sql("select 1");
});

test("with a redact, a visitor that only looks cannot search for what it hides", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await sql("select hark.register('c', array['c'])");
  const id = await notify(db, "c", { iban: "CH93" }, { key: "lovelace" });
  const redact = (one: ShownNotification) => ({ ...one, key: "hidden", payload: "hidden" });
  const as = (role: "read" | "operate", options = {}) =>
    visits(db, { authorize: () => ({ name: "ada", role }), ...options });
  const reader = as("read", { redact });
  const searches = ["/log?search=CH93", '/log?contains={"iban":"CH93"}', "/log?key=lovelace"];
  for (const path of [...searches, "/dead?consumer=c&key=lovelace"]) {
    const { status, text } = await reader.get(path);
    assert.equal(status, 403, path);
    assert.match(text, /you may not search by (search|contains|key)/);
    assert.ok(!text.includes(`id=${id}`), path);
  }
  for (const path of ["/log?channel=c", `/notification?id=${id}`, "/dead?consumer=c"]) {
    const { status, text } = await reader.get(path);
    assert.equal(status, 200, path);
    assert.doesNotMatch(text, /[?;]key=|name="(key|search|contains)"/, path);
  }
  for (const visitor of [as("read"), as("operate", { redact })]) {
    for (const path of searches) {
      assert.match((await visitor.get(path)).text, RegExp(`notification\\?id=${id}"`), path);
    }
  }
});

test("names, keys, payloads and errors that look like HTML are text", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  const evil = `"'><script>alert(1)</script>\u202e&`;
  const id = await notify(db, evil, { [evil]: evil }, { key: evil, headers: { [evil]: evil } });
  const consumer = new Consumer(db, {
    id: evil,
    channels: evil,
    from: "beginning",
    maxAttempts: 1,
    handle() {
      throw new Error(evil);
    },
  });
  await consumer.drain();
  await sql("select hark.notify('c')");
  const { get } = visits(db, { authorize: () => ({ name: evil, role: "operate" }) });
  const name = encodeURIComponent(evil);
  for (
    const path of [
      "/",
      "/consumers",
      `/consumer?name=${name}`,
      `/log?show=payload&channel=${name}&key=${name}`,
      `/notification?id=${id}&show=payload`,
      "/dead",
      `/dead?consumer=${name}&error=${name}`,
      `/sure?act=discard&consumer=${name}&error=${name}`,
      `/anew?consumer=${name}&id=${id}`,
      `/seek?name=${name}&to=${name}`,
      "/server",
      `/${name}`,
    ]
  ) {
    const { text } = await get(path);
    // Its only scripts are the page's own.
    assert.doesNotMatch(text, /<script>|\u202e/, path);
    assert.equal(text.match(/<script/g)?.length ?? 0, text.includes("page.js") ? 1 : 0, path);
  }
});

test("pages are kept by no cache, shown in no frame, and load nothing from elsewhere", async ({ url, use }) => {
  const { handler } = visits(use(await connect(url)), {
    path: "/admin/hark/",
    authorize: () => ada,
  }, "");
  for (const path of ["/admin/hark", "/admin/hark/log", "/log"]) {
    const response = await handler(new Request(`http://hark.test${path}`));
    assert.equal(response.status, 200, path);
    const { headers } = response;
    assert.equal(headers.get("cache-control"), "no-store");
    const policy = headers.get("content-security-policy")!;
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe/);
    const text = await response.text();
    assert.doesNotMatch(text, / style="| on\w+="|javascript:|https?:\/\/(?!hark\.test)/);
    const links = [...text.matchAll(/(?:href|src|action|data-live)="([^"]*)"/g)].map(([, to]) =>
      to!
    );
    for (const to of links) assert.match(to, /^(#main|\/admin\/hark(\/|$))/);
  }
  const missing = await handler(new Request("http://hark.test/admin/hark/nothing"));
  assert.equal(missing.status, 404);
  await missing.body?.cancel();
});

test("an act leads back only to a page of the dashboard", async ({ url, use, sql }) => {
  const db = use(await connect(url));
  await sql("select hark.register('billing', array['orders'])");
  const { post, token } = visits(db, { authorize: () => ada, path: "/h" }, "/h");
  const good = await token(page);
  for (
    const back of [
      "https://evil.example/",
      "//evil.example",
      "/\\evil.example",
      "javascript:alert(1)",
      "/nothing",
    ]
  ) {
    const { location } = await post({ act: "resume", consumer: "billing", token: good, back });
    assert.match(location!, /^\/h\/\?did=/, back);
  }
});

test("a wrong option is refused with its remedy", async ({ url, use }) => {
  const db = use(await connect(url));
  const refused = (options: object, words: RegExp) =>
    assert.throws(
      () => dashboard(db, { authorize: () => ada, ...options }),
      (error: HarkError) => error.code === "BAD_OPTION" && words.test(error.message),
    );
  refused({ path: "admin" }, /path is "admin"/);
  refused({ path: '/"><script>' }, /path is/);
  refused({ secret: "short" }, /32 characters/);
  refused({ readonly: true }, /readOnly/);
  refused({ interval: 1 }, /from 500/);
  refused({ authorize: undefined }, /authorize is undefined.*names the visitor/);
  assert.throws(
    () =>
      dashboard({ query: () => Promise.resolve({ rows: [] }) } as never, { authorize: () => ada }),
    /connect/,
  );
});

test("more open pages than allowed are refused, and an ended one makes room", async ({ url, use }) => {
  const { handler } = visits(use(await connect(url)), {
    authorize: () => ada,
    maxStreams: 1,
    interval: 500,
  });
  const open = () => handler(new Request("http://hark.test/live?page=/consumers"));
  const first = await open();
  const reader = first.body!.getReader();
  await reader.read();
  const second = await open();
  assert.equal(second.status, 503);
  await second.body?.cancel();
  await reader.cancel();
  const third = await open();
  assert.equal(third.status, 200);
  await third.body!.cancel();
});
