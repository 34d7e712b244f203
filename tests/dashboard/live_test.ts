import assert from "node:assert/strict";
import { connect, type Database } from "../../mod.ts";
import { dashboard, type DashboardOptions, type Visitor } from "../../src/dashboard/mod.ts";
import { cutProxy, test, until, within } from "../harness/mod.ts";
import { Chromium, chromiumPath } from "./_support/chromium.ts";
import { Page } from "./_support/page.ts";
import { serve } from "./_support/serve.ts";

const ada: Visitor = { name: "ada", role: "operate" };

/** A server of a dashboard, with one page that is open. */
async function opened(db: Database, options: Partial<DashboardOptions> = {}) {
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    dashboard(db, { authorize: () => ada, ...options }),
  );
  const open = () => fetch(`http://127.0.0.1:${server.addr.port}/live?page=/consumers`);
  const reader = (await open()).body!.getReader();
  let text = "";
  while (!text.includes("event: look")) {
    const { done, value } = await reader.read();
    if (done) break; // on a busy machine its lifetime may be over before the first look
    text += new TextDecoder().decode(value);
  }
  const over = async () => {
    while (!(await reader.read()).done);
  };
  return { server, open, over };
}

test("a server with open pages ends when the dashboard's signal aborts, or the database is closed", async ({ url, use }) => {
  const db = use(await connect(url));
  const end = new AbortController();
  const first = await opened(db, { signal: end.signal });
  const second = await opened(db);
  end.abort();
  await within(first.over());
  const late = await first.open();
  assert.match(await late.text(), /about to end/);
  await within(first.server.shutdown());
  await within(db.close());
  await within(second.over());
  await within(second.server.shutdown());
});

test("proxies are asked to pass on at once what an open page is told", async ({ url, use }) => {
  const db = use(await connect(url));
  const end = new AbortController();
  const { server, open, over } = await opened(db, { signal: end.signal });
  const { headers, body } = await open();
  assert.match(headers.get("cache-control")!, /\bno-transform\b/);
  assert.equal(headers.get("x-accel-buffering"), "no");
  end.abort();
  await body?.cancel();
  await within(over());
  await within(server.shutdown());
});

test("a visitor without rights any more sees an open page for its lifetime at most", async ({ url, use }) => {
  const db = use(await connect(url));
  let visitor: Visitor | null = ada;
  const { server, open, over } = await opened(db, { authorize: () => visitor, lifetime: 1000 });
  visitor = null;
  await within(over());
  const again = await open();
  assert.equal(again.status, 403);
  await again.body?.cancel();
  await within(server.shutdown());
});

test("an open page says soon that the database is silent, and is live again once it is back", async ({ url, use }) => {
  const { port, hostname } = new URL(url);
  const line = use(cutProxy(Number(port || 5432), hostname));
  const db = use(await connect(line.through(url)));
  const handler = dashboard(db, { authorize: () => ada, statementTimeout: 2000, interval: 500 });
  const response = await handler(new Request("http://hark.test/live?page=/consumers"));
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  /** Reads on until an event has the words. */
  const told = async (words: string, deadline: number) => {
    let text = "";
    const read = async () => {
      while (!text.includes(words)) text += (await reader.read()).value ?? "";
    };
    await within(read(), { deadline, what: `the page to be told ${words}` });
  };
  await told("event: look", 30_000);
  line.silence();
  await told("takes longer than 3 s", 20_000);
  line.refuse();
  // Why the look failed.
  await told("event: trouble", 20_000);
  line.resume();
  await told("event: look", 10_000);
  await reader.cancel();
});

test("an open page is live again when the visitor is let in again", {
  ignore: chromiumPath === undefined,
}, async ({ url, use }) => {
  const db = use(await connect(url));
  let isIn = true;
  let refused = 0;
  const authorize = () => {
    if (isIn) return ada;
    refused++;
    return null;
  };
  const { origin } = use(serve(db, { authorize, lifetime: 1000 }));
  const page = use(await Page.open(use(await Chromium.start())));
  await page.goto(`${origin}/consumers`);
  await page.says("live", "#live");
  isIn = false;
  await until(() => refused > 0);
  await page.says("refused", "#live");
  isIn = true;
  await page.says("live", "#live");
});
