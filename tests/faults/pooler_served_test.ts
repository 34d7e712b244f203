/** What Hark serves and shows through a real pgbouncer in transaction mode: commands, dashboard, streams. */

import assert from "node:assert/strict";
import { connect, doctor, notify, notifyMany } from "../../mod.ts";
import { before, calls, lasting } from "../cli/_support/calls.ts";
import { hark, ran } from "../cli/_support/hark.ts";
import { run } from "../examples/_support/run.ts";
import { scene } from "../dashboard/_support/scene.ts";
import { partner } from "../handlers/_support/partner.ts";
import { scratch, test, type TestContext, until } from "../harness/mod.ts";
import { Nats, natsRuns } from "../harness/nats.ts";
import { Events, serve } from "../streams/_support/serve.ts";
import { said } from "./_support/logs.ts";
import { assertUntouched, pgbouncer, startPooler } from "./_support/pooler.ts";
import { listenBackends, NEVER_POLL, Running } from "./_support/running.ts";

const options = { ignore: pgbouncer === undefined };

/** The URL of the test's database through a pooler. */
async function pooled(context: TestContext): Promise<string> {
  return context.use(await startPooler(context.url)).through(context.url);
}

test("each command works through a pooler", { ...options, timeout: 240_000 }, async (context) => {
  const url = await pooled(context);
  for (const statement of before) await context.sql(statement);
  await using folder = await scratch();
  await using nats = natsRuns ? await Nats.open() : undefined;
  const stream = await nats?.stream({ subjects: undefined! });
  const variables = { HARK_WAKE_SECRET: `whsec_${btoa("a secret of at least 24 bytes")}` };
  const { origin } = partner(context, () => new Response());
  for (const { command, args, alone } of calls(folder.path, origin, stream)) {
    if (alone || lasting.includes(command)) continue;
    const { code, stderr } = await ran([command, ...args], { url, variables });
    // These two find something: doctor the pooler.
    const judges = command === "check" || command === "doctor";
    assert(code === 0 || judges && code === 1, `${command} ${args.join(" ")}: ${code} ${stderr}`);
    if (command !== "uninstall") await assertUntouched(url);
  }
});

test(
  "through a pooler each screen of the dashboard has its data, is live by looking, and acts",
  { ...options, timeout: 120_000 },
  async (context) => {
    const url = await pooled(context);
    const db = context.use(await connect(url, { listen: false, poolSize: 8 }));
    const { ids } = context.use(await scene(db));
    const child = context.use(hark(["dashboard", "--port", "0", "--json"], { url }));
    const [, origin] = await child.line(/"url":"([^"]+)"/);
    const screens = {
      "/": "attention",
      "/consumers": "customers-search",
      "/consumer?name=mail": "smtp: connection refused",
      "/log?show=payload": "ada@example.org",
      [`/notification?id=${ids.behind}`]: "holds its key",
      [`/notification?id=${ids.change}&show=payload`]: "Basel",
      "/dead": "out of stock: order",
      "/dead?consumer=partner": "All shown",
      "/watches": "as defined",
      "/later": "daily-report",
      "/relays": "no server answers at 10.0.0.7",
      "/relays?inbox=payments-in": "payments.card",
      "/workers": "polling only",
      "/server": "payments",
      "/audit": "pause",
      "/sure?act=discard&consumer=partner&kind=dead&all=1": "19 dead letters",
      "/seek?name=billing&to=beginning": "60 again",
      "/replay?name=billing&from=1": "handle 60 again",
      [`/anew?consumer=partner&id=${ids.dead}`]: "The original stays",
    };
    for (const [path, words] of Object.entries(screens)) {
      const response = await fetch(`${origin}${path}`);
      const text = (await response.text()).replaceAll(/<[^>]*>/g, "");
      assert.equal(response.status, 200, `${path}: ${text}`);
      assert(text.includes(words), `${path} lacks ${words}:\n${text}`);
    }
    const live = context.use(new Events(`${origin}/live?page=/log`));
    await until(() => live.all.some(({ type }) => type === "look"));
    await notify(db, "refunds", {}, { key: "just now" });
    await until(() => live.all.some(({ data }) => data.includes("just now")), {
      what: "the open page to show what was published",
    });
    assert(!live.all.some(({ type }) => type === "trouble"), JSON.stringify(live.all));
    const page = await (await fetch(`${origin}/consumer?name=billing`)).text();
    const [, token] = /name="token" value="([^"]+)"/.exec(page)!;
    const acted = await fetch(`${origin}/act`, {
      method: "POST",
      headers: { origin: origin! },
      body: new URLSearchParams({
        token: token!,
        act: "pause",
        consumer: "billing",
        back: "/consumer?name=billing",
      }),
    });
    assert.equal(acted.status, 200);
    await acted.body?.cancel();
    const [{ paused }] = await context.sql(
      "select paused_at is not null as paused from hark.consumers where name = 'billing'",
    );
    assert.equal(paused, true);
    await assertUntouched(url);
  },
);

test(
  "streams through a pooler: clients that connect again and again get everything once, in order",
  { ...options, timeout: 120_000 },
  async (context) => {
    const url = await pooled(context);
    const db = context.use(await connect(url, { listen: false }));
    const { url: stream } = context.use(serve(db, { channels: "c", pollInterval: 1000 }));
    const all: number[] = [];
    const publish = async (from: number, to: number) => {
      for (let n = from; n <= to; n += 50) {
        await notifyMany(
          db,
          Array.from({ length: 50 }, (_, i) => ({ channel: "c", payload: all.push(n + i) })),
        );
      }
    };
    await publish(1, 1000); // to catch up with
    const seen: unknown[] = [];
    let position = "-1";
    const publishing = publish(1001, 3000);
    for (let times = 0; times < 10; times++) {
      await using events = new Events(`${stream}?offset=${position}`);
      const enough = Math.min(300, 3000 - seen.length);
      await until(() => events.messages.length >= enough, { what: `${enough} more events` });
      const taken = events.all.filter(({ type }) => type === "message").slice(0, enough);
      seen.push(...taken.map(({ data }) => JSON.parse(data)));
      position = taken.at(-1)!.id;
    }
    await publishing;
    assert.deepEqual(seen, all);
    // At the live edge, and by a long poll.
    await using live = new Events(stream);
    await live.response;
    const polled = fetch(`${stream}?offset=${position}&live=long-poll`);
    await notify(db, "c", "live");
    await until(() => live.messages.length === 1, { what: "a live event" });
    assert.deepEqual([live.messages, await (await polled).json()], [["live"], ["live"]]);
    await assertUntouched(url);
  },
);

test(
  "a program that was not told of the pooler says so at once, polls, and leaves no LISTEN to others",
  { ...options, timeout: 60_000 },
  async (context) => {
    const url = await pooled(context);
    const since = Date.now();
    const db = context.use(await connect(url, { heartbeat: 50 }));
    const running = context.use(new Running(db, { pollInterval: 50 }));
    await said("error", /transaction pooler/, since);
    for (let n = 1; n <= 10; n++) {
      await notify(db, "c", n);
      await running.atLeast(n);
    }
    await assertUntouched(url);
    const { stdout } = await ran(["doctor"], { url });
    assert.match(stdout, /pooler/);
    await assertUntouched(url);
  },
);

test(
  "with the pooled address for work and the direct one for LISTEN, consumers and streams are woken",
  options,
  async (context) => {
    const url = await pooled(context);
    const db = context.use(await connect(url, { listen: context.url }));
    const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
    const { url: stream } = context.use(serve(db, { channels: "c", pollInterval: NEVER_POLL }));
    const events = context.use(new Events(stream));
    await Promise.all([running.consumer.ready, events.response]);
    const publisher = context.use(await connect(url, { listen: false }));
    for (let n = 1; n <= 10; n++) {
      await notify(publisher, "c", n);
      await running.atLeast(n);
      await until(() => events.messages.length === n);
    }
    assert.equal((await listenBackends(context)).length, 1);
    assert.deepEqual((await doctor(db)).filter(({ code }) => code === "pooler"), []);
    await assertUntouched(url);
  },
);

test(
  "the example pooled.ts works behind a pooler, and without one",
  { ...options, schema: false },
  async (context) => {
    for (const url of [await pooled(context), context.url]) {
      const lines = await run("pooled", "example", url);
      assert.deepEqual(lines, ["order 1 of ada", "order 2 of ada", "order 3 of ada"]);
    }
  },
);
