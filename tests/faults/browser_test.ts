/** A real browser that is cut off again and again, and still gets every notification, each once. */

import assert from "node:assert/strict";
import { connect, type Database, notifyMany } from "../../mod.ts";
import { Chromium, chromiumPath } from "../dashboard/_support/chromium.ts";
import { Page } from "../dashboard/_support/page.ts";
import { cutProxy, patient, test, until } from "../harness/mod.ts";
import { serve, type Served } from "../streams/_support/serve.ts";

const ALL = 10_000;
const CUTS = 10;

const html = `<!doctype html><title>Live</title><script>
  const seen = [];
  let connects = 0;
  const source = new EventSource("/live?offset=-1");
  source.onopen = () => connects++;
  source.onmessage = ({ data }) => seen.push(JSON.parse(data));
</script>`;

function served(db: Database, port?: number): Served {
  return serve(
    db,
    { channels: "c", retry: 50, heartbeat: 500 },
    port,
    (handle, request) =>
      new URL(request.url).pathname === "/live"
        ? handle(request)
        : Promise.resolve(new Response(html, { headers: { "content-type": "text/html" } })),
  );
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test(`an EventSource that is cut off ${CUTS} times gets ${ALL} notifications in order, each once`, {
  ignore: chromiumPath === undefined,
  timeout: 120_000,
}, async (context) => {
  const db = context.use(await connect(context.url));
  let server = served(db);
  context.use({ [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() });
  const { port } = server;
  await using proxy = cutProxy(port);
  await using chromium = await Chromium.start();
  await using page = await Page.open(chromium);
  await page.goto(`http://127.0.0.1:${proxy.port}/`);
  let published = 0;
  const publishing = (async () => {
    while (published < ALL) {
      const some = Array.from({ length: 20 }, (_, i) => ({ channel: "c", payload: published + i }));
      await notifyMany(db, some);
      published += 20;
      await pause(10);
    }
  })();
  const seen = async () => await page.evaluate("seen.length") as number;
  const connects = async () => await page.evaluate("connects") as number;
  for (let cut = 0; cut < CUTS; cut++) {
    const before = await seen();
    await until(async () => await seen() > before || published === ALL, {
      deadline: patient(10_000),
    });
    const had = await connects();
    if (cut % 3 === 0) proxy.sever();
    else if (cut % 3 === 1) {
      await server[Symbol.asyncDispose]();
      await pause(100);
      server = served(db, port);
    } else {
      await page.freeze(true);
      await pause(300);
      await page.freeze(false);
      continue;
    }
    // Or all might be published, and the other cuts over, before it has connected again.
    await until(async () => await connects() > had, { what: "it to connect again" });
  }
  await publishing;
  await until(async () => await seen() >= ALL, { deadline: patient(30_000), what: "all of them" })
    .catch(() => {});
  assert.deepEqual(
    await page.evaluate("seen"),
    Array.from({ length: ALL }, (_, i) => i),
  );
  assert(await connects() >= 6, "it did connect again");
});
