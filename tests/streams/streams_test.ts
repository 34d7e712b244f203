import assert from "node:assert/strict";
import {
  channel,
  connect,
  type Database,
  type Notification,
  notify,
  notifyMany,
} from "../../mod.ts";
import { EphemeralReader } from "../../src/consume/read/ephemeral_reader.ts";
import { OutsidePlace } from "../../src/consume/state/outside.ts";
import { spread } from "../../src/streams/events.ts";
import { streams, type StreamsOptions } from "../../src/streams/mod.ts";
import { abortListeners, cutProxy, test, until, within } from "../harness/mod.ts";
import { CountingProxy } from "../../bench/workers/counting.ts";
import { said } from "../faults/_support/logs.ts";
import { role } from "../schema/_support/role.ts";
import { Events, serve } from "./_support/serve.ts";

const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);

async function publish(db: Database, from: number, to: number, name = "c"): Promise<void> {
  await notifyMany(db, numbers(from, to).map((n) => ({ channel: name, payload: n })));
}

const next = (response: Response) => response.headers.get("stream-next-offset")!;

test("a catch-up read pages through what there is, and says when it is up to date", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c" }));
  await publish(db, 1, 1234);
  const seen: number[] = [];
  let offset = "-1";
  for (let pages = 1;; pages++) {
    const response = await fetch(`${url}?offset=${offset}`);
    assert.equal(response.headers.get("content-type"), "application/json");
    seen.push(...await response.json());
    assert(next(response) > offset || offset === "-1", `${next(response)} behind ${offset}`);
    offset = next(response);
    if (response.headers.get("stream-up-to-date") === "true") break;
    assert.match(response.headers.get("cache-control")!, /^private, max-age=60/);
    assert(pages < 10);
  }
  assert.deepEqual(seen, numbers(1, 1234));
  const end = await fetch(`${url}?offset=${offset}`);
  assert.deepEqual(await end.json(), []);
  assert(next(end) >= offset);
  const head = await fetch(url, { method: "HEAD" });
  assert(next(head) >= offset);
  assert.equal(head.headers.get("cache-control"), "no-store");
  await publish(db, 1235, 1236);
  assert.deepEqual(await (await fetch(`${url}?offset=${offset}`)).json(), [1235, 1236]);
});

test("an EventSource gets each notification with its position, and goes on behind it", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c", heartbeat: 100 }));
  await publish(db, 1, 3);
  const live = context.use(new Events(url));
  await live.response;
  await publish(db, 4, 6);
  await until(() => live.messages.length === 3);
  assert.deepEqual(live.messages, [4, 5, 6], "it begins now");
  const again = context.use(new Events(url, { "last-event-id": live.all[0]!.id }));
  await until(() => again.messages.length === 2);
  assert.deepEqual(again.messages, [5, 6]);
  const all = context.use(new Events(`${url}?offset=-1`));
  await until(() => all.messages.length === 6);
  await publish(db, 7, 8);
  await until(() => all.messages.length === 8 && again.messages.length === 4);
  assert.deepEqual(all.messages, numbers(1, 8));
  // While nothing comes on this channel, heartbeats tell where it is.
  await publish(db, 1, 50, "other");
  const { id } = all.all.at(-1)!;
  await until(() => all.lastId > id);
  // Taken before the publish: this client gets the ninth as soon as it is committed.
  const { lastId } = all;
  await publish(db, 9, 9);
  const later = context.use(new Events(url, { "last-event-id": lastId }));
  await until(() => later.messages.length > 0);
  assert.deepEqual(later.messages, [9]);
});

test("proxies are asked to pass events on as they come, not compressed or collected", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c" }));
  for (const live of [new Events(url), new Events(`${url}?offset=-1&live=sse`)]) {
    const { headers } = await context.use(live).response;
    assert.match(headers.get("cache-control")!, /\bno-transform\b/);
    assert.equal(headers.get("x-accel-buffering"), "no");
    assert.equal(headers.get("content-encoding"), null);
  }
});

test("a long poll waits for what comes, and ends without it", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c" }));
  const brief = context.use(serve(db, { channels: "c", longPoll: 100 }));
  const empty = await fetch(`${brief.url}?offset=now&live=long-poll`);
  assert.equal(empty.status, 204);
  assert.match(empty.headers.get("stream-cursor")!, /^\d+$/);
  const waiting = fetch(`${url}?offset=${next(empty)}&live=long-poll`);
  await publish(db, 1, 1);
  const found = await waiting;
  assert.deepEqual([found.status, await found.json()], [200, [1]]);
  assert.equal(found.headers.get("stream-up-to-date"), "true");
});

test("clients that come and go leave nothing behind in the server", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c", longPoll: 1, heartbeat: 100 }));
  const poll = async () => {
    const response = await fetch(`${url}?offset=now&live=long-poll`);
    assert.equal(response.status, 204);
    const live = new Events(url);
    await live.response;
    await live[Symbol.asyncDispose]();
  };
  await poll();
  const listeners = context.use(abortListeners());
  for (let n = 1; n <= 20; n++) await poll();
  await until(() => listeners.left < 10, { what: "the listeners of clients that left to go" });
});

test("on a busy channel, a client learns soon where the log ends, and for few statements", async (context) => {
  const counting = context.use(new CountingProxy(context.url));
  const db = context.use(await connect(counting.url));
  const { url } = context.use(serve(db, { channels: "c" }));
  const { headers } = await fetch(url, { method: "HEAD" });
  const offset = headers.get("stream-next-offset");
  const client = await context.client();
  const { rows: [{ pid }] } = await client.query("select pg_backend_pid() as pid");
  const publishing = assert.rejects(
    client.query(
      `do $$ begin loop perform hark.notify('c', '1'); commit; end loop; end $$`,
    ),
    { code: "57014" },
  );
  await until(async () =>
    (await context.sql("select count(*)::int as n from hark.log"))[0]!.n > 100
  );

  for (
    const [query, method] of [["", "HEAD"], ["?offset=now", "GET"], [`?offset=${offset}`, "GET"]]
  ) {
    const before = counting.traffic.statements;
    const response = await fetch(url + query, { method: method! });
    await response.body?.cancel();
    const asked = counting.traffic.statements - before;
    // What tends the log may come between.
    assert(asked < 15, `${asked} statements for ${method} ${query}`);
  }
  await context.sql("select pg_cancel_backend($1)", [pid]);
  await publishing;
});

test("a page is given although the reader that it asks ends just then", async (context) => {
  const { hostname, port } = new URL(context.url);
  const proxy = context.use(cutProxy(Number(port || 5432), hostname));
  const db = context.use(await connect(proxy.through(context.url)));
  // A reader goes on for 10 s after its last client.
  const { setTimeout } = globalThis;
  const lingers: (() => void)[] = [];
  globalThis.setTimeout = ((call: () => void, ms?: number) => {
    if (ms !== 10_000) return setTimeout(call, ms);
    lingers.push(call);
    return undefined;
  }) as typeof setTimeout;
  context.use({ [Symbol.dispose]: () => void (globalThis.setTimeout = setTimeout) });
  let ends = false;
  const { url } = context.use(
    serve(db, { channels: "c", longPoll: 1 }, 0, async (handle, request) => {
      if (ends) proxy.silence();
      const response = handle(request);
      if (ends) {
        await new Promise((resolve) => setTimeout(resolve, 0)); // until it asks the reader
        for (const linger of lingers) linger();
        proxy.resume();
      }
      return await response;
    }),
  );
  const offset = next(await fetch(`${url}?offset=now&live=long-poll`));
  await publish(db, 1, 1);
  ends = true;
  const page = await fetch(`${url}?offset=${offset}`);
  assert.equal(lingers.length, 1);
  assert.deepEqual([page.status, await page.json()], [200, [1]]);
});

test("a page has an ETag, and is not sent twice", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c", cache: "public" }));
  await publish(db, 1, 3);
  let etag = "";
  // The end of the log moves on while transactions of others on the server end.
  await until(async () => {
    const first = await fetch(url);
    assert.deepEqual(await first.json(), [1, 2, 3]);
    etag = first.headers.get("etag")!;
    const second = await fetch(url, { headers: { "if-none-match": etag } });
    const body = await second.text();
    return second.status === 304 && body === "";
  }, { what: "the same page not to be sent twice" });
  await publish(db, 4, 4);
  assert.deepEqual(await (await fetch(url, { headers: { "if-none-match": etag } })).json(), [
    1,
    2,
    3,
    4,
  ]);
});

test("who may not read learns nothing of what there is", async (context) => {
  const db = context.use(await connect(context.url));
  const secret = channel<{ to: string; n: number }>("secret");
  const { url } = context.use(serve(db, {
    authorize: (request) => {
      const user = request.headers.get("x-user");
      if (user === null) return new Response(null, { status: 401 });
      if (user === "eve") return false;
      return { filter: (n) => n.payload.to === user };
    },
    route: (request) => new URL(request.url).pathname === "/secret" ? { channels: secret } : null,
  }));
  await notifyMany(
    db,
    [1, 2, 3, 4].map((n) => ({
      channel: "secret",
      payload: { to: n % 2 === 0 ? "ada" : "bob", n },
    })),
  );
  const as = async (user: string | null, path: string) => {
    const response = await fetch(`${url}${path}`, {
      headers: user === null ? {} : { "x-user": user },
    });
    return [response.status, await response.text()];
  };
  assert.deepEqual(await as(null, "secret"), [401, ""]);
  assert.deepEqual(await as("eve", "secret"), await as("eve", "nothing"));
  assert.equal((await as("eve", "secret"))[0], 403);
  assert.equal((await as("ada", "nothing"))[0], 404);
  assert.deepEqual(await as("ada", "secret"), [
    200,
    '[{"n": 2, "to": "ada"},{"n": 4, "to": "ada"}]',
  ]);
  const live = context.use(new Events(`${url}secret?offset=-1`, { "x-user": "bob" }));
  await until(() => live.messages.length === 2);
  assert.deepEqual(live.messages.map((m) => (m as { n: number }).n), [1, 3]);
});

test("what is wrong with a request is told as JSON, with a remedy", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c" }));
  const told = async (query: string, init?: RequestInit) => {
    const response = await fetch(url + query, init);
    const { error } = await response.json();
    assert(error.remedy.length > 0);
    return [response.status, error.code, error.message, error.remedy];
  };
  assert.deepEqual((await told("?live=sse")).slice(0, 2), [400, "BAD_OPTION"]);
  assert.deepEqual((await told("?live=often&offset=now")).slice(0, 2), [400, "BAD_OPTION"]);
  assert.deepEqual((await told("?offset=a&offset=b")).slice(0, 2), [400, "BAD_OPTION"]);
  const [, , message, remedy] = await told("?offset=1,2");
  assert.match(String(message), /^offset is "1,2", which is no position/);
  assert.equal(remedy, "Give -1, now, or what stream-next-offset was.");
  assert.deepEqual((await told("", { method: "POST", body: "1" })).slice(0, 2), [
    405,
    "BAD_METHOD",
  ]);
  await publish(db, 1, 3);
  const { headers } = await fetch(`${url}?offset=now`, { method: "HEAD" });
  await publish(db, 4, 5);
  await db.query("select hark.cut()");
  await db.query("select * from hark.clean('infinity')");
  await publish(db, 6, 6);
  const gone = await told(`?offset=${headers.get("stream-next-offset")}`);
  assert.deepEqual(gone.slice(0, 2), [410, "GONE"]);
  // An EventSource cannot see a status: it is told, and goes on.
  const events = context.use(
    new Events(url, { "last-event-id": headers.get("stream-next-offset")! }),
  );
  await until(() => events.messages.length === 1);
  assert.deepEqual(events.all.map(({ type }) => type), ["gap", "message"]);
});

test("wrong options are refused at once", async (context) => {
  const db = context.use(await connect(context.url));
  const authorize = () => true;
  for (
    const options of [
      {},
      { authorize, channels: "" },
      { authorize, channels: "c", route: () => null },
      { authorize, channels: "c", cors: ["example.com"] },
      { authorize, channels: "c", heartbeat: 0 },
      { authorize, chanels: "c" },
    ]
  ) {
    assert.throws(() => streams(db, options as never), { code: /^BAD_(OPTION|CHANNEL)$/ });
  }
  assert.throws(() => streams({} as never, { authorize, channels: "c" }), /Give what connect/);
});

test("pages of other origins may read if they are named", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c", cors: ["https://a.example"] }));
  const allowed = async (origin: string, method = "GET") => {
    const response = await fetch(url, { method, headers: { origin } });
    await response.body?.cancel();
    return response.headers.get("access-control-allow-origin");
  };
  assert.equal(await allowed("https://a.example"), "https://a.example");
  assert.equal(await allowed("https://a.example", "OPTIONS"), "https://a.example");
  assert.equal(await allowed("https://b.example"), null);
});

test("clients of a set of channels share one reader, and a slow one costs the others nothing", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c", buffer: 20_000 }));
  const clients = Array.from({ length: 20 }, () => context.use(new Events(url)));
  await Promise.all(clients.map(({ response }) => response));
  const slow = await fetch(url, { headers: { accept: "text/event-stream" } });
  const text = "x".repeat(1000);
  for (let n = 1; n <= 10; n++) {
    await notifyMany(db, numbers(1, 50).map((i) => ({ channel: "c", payload: { n, i, text } })));
  }
  await until(() => clients.every(({ all }) => all.length === 500));
  const sessions = await context.sql(
    "select count(*) as n from pg_stat_activity where application_name = $1",
    [context.appName],
  );
  assert(Number(sessions[0]!.n) <= 6, `${sessions[0]!.n} connections`);
  // The slow one finds all of it in the log.
  let got = "";
  for await (const piece of slow.body!.pipeThrough(new TextDecoderStream())) {
    got += piece;
    if ((got.match(/^data:/gm)?.length ?? 0) === 500) break;
  }
  assert.equal(new Set(got.match(/^id: .*(?=\ndata)/gm)).size, 500);
});

test("a notification whose message cannot be made is left out, and the stream goes on", async (context) => {
  const db = context.use(await connect(context.url));
  const since = Date.now();
  const message = ({ payload }: { payload: unknown }) => {
    if (payload === 2) throw new Error("two is not for the page");
    return payload === 3 ? 3n : payload;
  };
  const { url } = context.use(serve(db, { channels: "c", message }));
  await publish(db, 1, 5);
  const live = context.use(new Events(`${url}?offset=-1`));
  await until(() => live.messages.length >= 3);
  assert.deepEqual(live.messages, [1, 4, 5]);
  assert.deepEqual(await (await fetch(url)).json(), [1, 4, 5]);
  await said("error", /left out of a stream: two is not for the page/, since);
});

test("a message that is a promise, or that JSON would change, is left out and told", async (context) => {
  const db = context.use(await connect(context.url));
  const since = Date.now();
  const message = ({ payload }: { payload: unknown }) => {
    if (payload === 1) return Promise.resolve({ one: 1 });
    if (payload === 2) return Promise.reject(new Error("it fails, and the program goes on"));
    return payload === 3 ? { three: new Map() } : { payload, text: "half of \ud83d" };
  };
  const { url } = context.use(serve(db, { channels: "c", message }));
  await publish(db, 1, 4);
  assert.deepEqual(await (await fetch(url)).json(), [{ payload: 4, text: "half of \ud83d" }]);
  await said("error", /#1.* is left out of a stream: message returned a promise/, since);
  await said("error", /#2.* is left out of a stream: message returned a promise/, since);
  await said("error", /#3.* is left out of a stream: message at three is a Map of 0/, since);
});

test("a client is not told to come again if that is of no use, and learns nothing of why", async (context) => {
  const { name, url: roleUrl } = await role(context);
  await context.sql("select hark.grant_publish($1)", [name]);
  const db = context.use(await connect(roleUrl));
  const { url } = context.use(serve(db, { channels: "c" }));
  for (const accept of ["application/json", "text/event-stream"]) {
    const answer = await fetch(url, { headers: { accept } });
    const text = await answer.text();
    assert.equal(answer.status, 500, accept);
    assert.equal(JSON.parse(text).error.code, "FAILED");
    assert.doesNotMatch(text, /permission|function/);
  }
});

test("while the database is away, a new client is told soon to come again", async (context) => {
  const { hostname, port } = new URL(context.url);
  const proxy = context.use(cutProxy(Number(port || 5432), hostname));
  const db = context.use(await connect(proxy.through(context.url)));
  const { url } = context.use(serve(db, { channels: "c" }));
  const first = context.use(new Events(url));
  await first.response;
  proxy.refuse();
  const [browser, client] = await within(
    Promise.all([
      fetch(url, { headers: { accept: "text/event-stream" } }),
      fetch(`${url}?offset=now&live=sse`),
    ]),
    { deadline: 10_000 },
  );
  assert.deepEqual([browser.status, await browser.text()], [200, "retry: 5000\n\n"]);
  assert.deepEqual([client.status, client.headers.get("retry-after")], [503, "5"]);
  assert.equal((await client.json()).error.code, "BUSY");
  // The one that was there before goes on.
  proxy.resume();
  const there = context.use(await connect(context.url));
  await publish(there, 1, 1);
  await until(() => first.messages.length === 1, { deadline: 20_000 });
});

test("a live client is told what was cleaned while the server could not read", async (context) => {
  const { hostname, port } = new URL(context.url);
  const proxy = context.use(cutProxy(Number(port || 5432), hostname));
  const db = context.use(await connect(proxy.through(context.url)));
  const { url } = context.use(serve(db, { channels: "c", heartbeat: 100 }));
  const there = context.use(await connect(context.url));
  const live = context.use(new Events(url));
  await live.response;
  await publish(there, 1, 1);
  await until(() => live.messages.length === 1);
  const poll = fetch(`${url}?offset=${live.lastId}&live=long-poll`);
  const sse = context.use(new Events(`${url}?offset=${live.lastId}&live=sse`));
  await sse.response;
  proxy.refuse();
  await publish(there, 2, 4);
  await there.query("select hark.cut()");
  await there.query("select * from hark.clean('infinity')");
  await publish(there, 5, 5);
  proxy.resume();
  await until(() => live.messages.length === 2, { deadline: 20_000 });
  assert.deepEqual(live.messages, [1, 5]);
  assert.deepEqual(live.all.map(({ type }) => type), ["message", "gap", "message"]);
  const { status, body } = await poll;
  await body?.cancel();
  assert.equal(status, 410);
  await within(sse.done); // its client begins again, and is told then
  assert.deepEqual(sse.all.filter(({ type }) => type === "data"), []);
});

test("clients that connected together do not all connect again together", () => {
  assert.equal(spread(600_000, () => 0), 600_000);
  assert.equal(spread(600_000, () => 0.5), 570_000);
  assert(spread(600_000, () => 0.999) >= 540_000);
});

test("the end of the server ends every live response", async (context) => {
  const db = context.use(await connect(context.url));
  const server = serve(db, { channels: "c" });
  const live = context.use(new Events(server.url));
  await live.response;
  await server[Symbol.asyncDispose]();
  await live.done;
  const other = serve(db, { channels: "c" });
  const second = context.use(new Events(other.url));
  await second.response;
  await notify(db, "c", 1);
  await until(() => second.messages.length === 1);
  await db.close();
  await second.done;
  await other[Symbol.asyncDispose]();
});

test("a position inside a window that ends where it began is answered, and holds no one else up", async (context) => {
  const db = context.use(await connect(context.url));
  const { url } = context.use(serve(db, { channels: "c", longPoll: 300, heartbeat: 100 }));
  await publish(db, 1, 1);
  const limits = { rows: 100, bytes: 1_000_000, scanned: 10_000 };
  const reader = new EphemeralReader(["c"], limits);
  await reader.start(db, ["now", null, null]);
  const seen = reader.mark!;
  const forged = new OutsidePlace(reader.install, { seen, target: seen, lastId: 0, afterId: 0 });
  const offset = forged.after(1);
  const live = context.use(new Events(`${url}?offset=${offset}`));
  for (const way of ["", "&live=long-poll"]) {
    const response = await within(fetch(`${url}?offset=${offset}${way}`));
    await response.body?.cancel();
    assert(response.ok, String(response.status));
  }
  await publish(db, 2, 2);
  await until(() => live.messages.length > 0);
  assert.deepEqual(live.messages, [2]);
});

test("a browser keeps a page for its user alone, and a shared cache for all", async (context) => {
  const db = context.use(await connect(context.url));
  const cors = ["https://example.com"];
  const kept = async (options: Partial<StreamsOptions>) => {
    const { url } = context.use(serve(db, { channels: "c", ...options }));
    const response = await fetch(url);
    await response.body?.cancel();
    return response.headers.get("vary");
  };
  assert.equal(await kept({}), "authorization, cookie");
  assert.equal(await kept({ cors }), "origin, authorization, cookie");
  assert.equal(await kept({ cors, cache: "public" }), "origin");
});

test("a client that is given nothing of what comes still hears where it is", async (context) => {
  const db = context.use(await connect(context.url));
  const authorize = () => ({ filter: () => false });
  const { url } = context.use(serve(db, { channels: "c", heartbeat: 100, authorize }));
  const live = context.use(new Events(url));
  await live.response;
  await until(() => live.lastId !== "");
  const busy = new AbortController();
  const publishing = (async () => {
    while (!busy.signal.aborted) await publish(db, 1, 1);
  })();
  for (let beats = 0; beats < 3; beats++) {
    const { lastId } = live;
    await until(() => live.lastId > lastId, { what: "a heartbeat while others get something" });
  }
  busy.abort();
  await publishing;
});

test("a long poll that reads what the client may not see ends, and goes on there", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("select hark.notify('c', to_jsonb(n)) from generate_series(1, 20000) n");
  const filter = (n: Notification) => n.payload === 20_000;
  const { url } = context.use(
    serve(db, { channels: "c", longPoll: 1, authorize: () => ({ filter }) }),
  );
  const seen: unknown[] = [];
  let polls = 0;
  for (let offset = "-1"; seen.length === 0; polls++) {
    const response = await fetch(`${url}?offset=${offset}&live=long-poll`);
    assert.equal(response.status, 200, "it is not told that it is up to date");
    seen.push(...await response.json());
    offset = next(response);
  }
  assert.deepEqual(seen, [20_000]);
  assert(polls > 1, "none reads all of the log before it answers");
});

test("a client that takes nothing holds little in memory, however much comes", async (context) => {
  const db = context.use(await connect(context.url));
  const end = new AbortController();
  context.use({ [Symbol.dispose]: () => end.abort() });
  const handle = streams(db, { channels: "c", authorize: () => true, signal: end.signal });
  const response = await handle(new Request("http://localhost/?offset=now&live=sse"));
  await notifyMany(
    db,
    numbers(1, 100).map(() => ({ channel: "c", payload: "x".repeat(50_000) })),
  );
  let [all, largest] = [0, 0];
  const reader = response.body!.getReader();
  while (all < 5_000_000) {
    const { value } = await reader.read();
    all += value!.length;
    largest = Math.max(largest, value!.length);
  }
  await reader.cancel();
  assert(largest < 400_000, `${largest} bytes at once`);
});
