/**
 * The dashboard on a large database: how long each screen takes from the request to its last byte,
 * its longest statement, when a browser paints it first, and what an open page costs the database. A
 * hundred consumers, of which ten have read nothing and nine in ten are live, 100,000 dead letters, and
 * notifications that flow. One page stays open for `--minutes` in a browser, and the bench looks
 * whether page, process or connections grow.
 *
 *     deno task bench dashboard [--rows 1000000] [--consumers 100] [--dead 100000] [--rate 1000]
 *       [--repeats 5] [--minutes 1] [--json]
 *
 * Needs Chromium; without it, the columns of the browser stay empty. The share of a core comes from the
 * server's own files in /proc, which only a superuser on Linux may read.
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { connect, notifyMany } from "@hark/postgres";
import { dashboard } from "../src/dashboard/mod.ts";
import { Browser } from "./dashboard/browser.ts";
import { applicationName, cpuMs } from "./dashboard/cpu.ts";
import { openPage } from "./dashboard/open_page.ts";
import { timed } from "./dashboard/timed.ts";
import { fillLog } from "./fill.ts";
import { flags, median, round, say } from "./flags.ts";
import { ownDatabase, pause } from "./own.ts";
import { print, type Row } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({
  rows: "1000000",
  consumers: "100",
  dead: "100000",
  rate: "1000",
  repeats: "5",
  minutes: "1",
});
const [rows, consumers] = [given.number("rows"), given.number("consumers")];
const behind = Math.floor(consumers / 10);

await using own = await ownDatabase();
await fillLog(own.db, { table: "hark.log", rows, bytes: 200, channel: "'often'" });
for (let n = 0; n < behind; n++) {
  await own.db.query("select hark.register($1, array['often'], 'beginning')", [`behind-${n}`]);
}
await own.db.query(
  `insert into hark.dead (consumer, id, channel, key, payload, created_at, attempts, error)
  select 'behind-' || n % $2, n, 'often', 'key-' || n % 1000, jsonb_build_object('n', n),
    now() - interval '1 day', 8, 'error of kind ' || n % 20
  from generate_series(1, $1::integer) n`,
  [given.number("dead"), behind],
);
await own.db.query("vacuum analyze hark.dead");

// They begin where the log ends, as consumers that keep up. The others have read nothing.
const live = consumers - behind - 1;
for (const name of ["bench-flow", ...Array.from({ length: live }, (_, n) => `live-${n}`)]) {
  const channel = name.replace(/^bench-|-\d+$/g, "");
  await own.db.query("select hark.register($1, array[$2], 'now')", [name, channel]);
}
await using _many = await BenchWorker.start({
  system: "hark-many",
  url: own.url,
  name: "live",
  consumers: live,
});
await using _one = await BenchWorker.start({ system: "hark", url: own.url, name: "flow" });

await using publisher = await connect(own.url);
/** Publishes until it is disposed. One a second goes to all live consumers. */
await using _flow = flow(given.number("rate"));

function flow(rate: number): AsyncDisposable {
  const size = Math.ceil(rate / 20);
  const batch = (turn: number) =>
    Array.from({ length: size }, (_, n) => ({
      channel: n === 0 && turn % 20 === 0 ? "live" : "flow",
      payload: { n },
      key: `key-${n}`,
    }));
  let on = true;
  const done = (async () => {
    for (let at = performance.now(), turn = 0; on; at += 50, turn++) {
      await notifyMany(publisher, batch(turn));
      await pause(Math.max(0, at + 50 - performance.now()));
    }
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      on = false;
      await done;
    },
  };
}

const address = new URL(own.url);
address.searchParams.set("application_name", applicationName);
await using db = await connect(address.href);
const interval = 2000;
const clock = timed(db);
const handler = dashboard(clock.db, {
  interval,
  authorize: () => ({ name: "bench", role: "operate" }),
});
await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, handler);
const origin = `http://127.0.0.1:${server.addr.port}`;
await using browser = await Browser.start();

const screens: Readonly<Record<string, string>> = {
  overview: "/",
  consumers: "/consumers",
  "a live consumer": "/consumer?name=live-0",
  "a consumer far behind": "/consumer?name=behind-0",
  log: "/log",
  "log, payload without any": "/log?search=not+there",
  notification: `/notification?id=${Math.floor(rows / 3)}`,
  "dead letters": "/dead",
  "dead letters of one": "/dead?consumer=behind-0&error=error+of+kind+10",
  watches: "/watches",
  later: "/later",
  workers: "/workers",
  server: "/server",
  audit: "/audit",
  "seek, preview": "/seek?name=live-0&to=beginning",
  "retry all, preview": "/sure?act=retry&consumer=behind-0&kind=dead&all=1",
};

const measured: Row[] = [];
await pause(5000); // for the flow to be steady
for (const [name, path] of Object.entries(screens)) {
  const times: number[] = [];
  clock.take();
  for (let n = 0; n < given.repeats; n++) {
    await pause(interval + 100); // so that the page has to look at the database
    const begun = performance.now();
    const response = await handler(new Request(`${origin}${path}`));
    const text = await response.text();
    times.push(performance.now() - begun);
    if (response.status !== 200) throw new Error(`${path}: ${response.status} ${text}`);
  }
  const statements = clock.take();
  const painted = await browser?.firstPaint(`${origin}${path}`);
  measured.push({
    screen: name,
    "ms, median": round(median(times)),
    "ms, longest": round(Math.max(...times)),
    "first paint, ms": painted === undefined ? null : round(painted),
    "longest statement, ms": round(Math.max(...statements)),
    "statements a page": round(statements.length / given.repeats),
  });
  say(JSON.stringify(measured.at(-1)));
}

// One open page.
const open = await openPage({
  minutes: given.number("minutes"),
  db: own.db,
  clock,
  page: await browser?.open(`${origin}/`),
  cpu: () => cpuMs(own.db),
});

await print({
  title: `The dashboard on ${rows.toLocaleString("en")} notifications`,
  rows: measured,
  notes: [
    `${consumers} consumers, ${given.number("dead").toLocaleString("en")} dead letters, ` +
    `${
      given.number("rate")
    } published a second. ${given.repeats} requests a screen, each of which ` +
    "looks at the database anew.",
    ...open,
  ],
}, given);
