/** What an operator sees of several processes and threads. */

import assert from "node:assert/strict";
import { notify } from "../../mod.ts";
import { join } from "node:path";
import { hark, printer, writeModules } from "../cli/_support/hark.ts";
import { scratch, spawnDeno, test, until } from "../harness/mod.ts";
import { Collector } from "./_support/collector.ts";

test("a killed worker's notification is handled by another one, in a span of its own", async ({ url, admin, use }) => {
  const collector = use(new Collector());
  const start = (name: string) =>
    use(spawnDeno(["tests/telemetry/_support/shop.ts", "serve"], {
      env: { ...collector.env, DATABASE_URL: url, HARK_SHOP: name },
    }));
  const killed = start("killed");
  await killed.line(/ready/);
  const next = start("next");
  await next.line(/ready/);
  await notify(admin, "orders", {}, {
    headers: { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" },
  });
  await killed.line(/handling/);
  killed.kill("SIGKILL");
  await next.line(/handled/);
  const handled = await collector.only("process orders");
  assert.equal(handled.attributes["hark.outcome"], "handled");
  assert.equal(handled.links[0]!.spanId, "b7ad6b7169203331");
  const takeovers = () => collector.metrics.get("hark.takeovers")?.points[0]?.value;
  await until(() => Promise.resolve(takeovers() === 1), { what: "the take-over to be counted" });
  const [claim] = collector.named("hark.claim").slice(-1);
  assert.equal(claim!.attributes["messaging.consumer.group.name"], "billing");
  next.kill();
  assert.equal((await next.ended()).code, 0);
});

test("hark listen answers probes, adds up its threads, and exports by OTEL_DENO", async (c) => {
  const { url, admin, use } = c;
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": printer("billing", "orders", "partitions: 4,") });
  const collector = use(new Collector());
  const shop = use(hark(["listen", join(folder.path, "two.ts"), "--workers", "2"], {
    url: url.replace(/\?.*$/, ""),
    env: { ...collector.env, HARK_METRICS: "0" },
  }));
  const [, address] = await shop.line(/^metrics at (\S+)\/metrics/);
  assert.equal(new URL(address!).hostname, "127.0.0.1"); // without a host, this machine only
  let over = "";
  const ended = shop.ended({ deadline: 90_000 }).then(({ code, stderr }) => {
    over = `hark listen has ended with ${code}: ${stderr}`;
  });
  ended.catch(() => {}); // another wait has failed before
  const ask = async (path: string) => {
    if (over !== "") throw new Error(over); // a refused connection does not say why
    const response = await fetch(`${address}${path}`);
    return { status: response.status, text: await response.text() };
  };
  const readiness = async () => JSON.parse((await ask("/readyz")).text);
  await until(async () => {
    const { ok, runs } = await readiness();
    return ok && runs.length === 2;
  }, { what: "both threads to be ready" });
  const about = '\\{messaging_consumer_group_name="billing"\\}';
  const owned = new RegExp(`^hark_partition_owned${about} 4$`, "m");
  await until(async () => owned.test((await ask("/metrics")).text), {
    what: "all partitions to be served",
  });
  const health = JSON.parse((await ask("/livez")).text);
  assert.equal(health.runs.length, 2);
  const [{ worker }] = health.runs;
  assert.match(worker, /\/w[12]$/);
  await notify(admin, "orders", { id: 1 });
  await until(async () => /consumed_messages_total\{.*\} 1$/m.test((await ask("/metrics")).text), {
    what: "the notification to be counted",
  });
  await collector.only("process orders");
  await until(() => Promise.resolve(collector.metrics.has("hark.consumer.lag.time")), {
    what: "the lag to be exported",
  });
  assert.equal(collector.metrics.get("hark.consumer.lag.time")!.unit, "s");
  // Of a counter that begins with 1, an alert sees no increase.
  await until(() => Promise.resolve(collector.metrics.has("hark.consumer.dead_letters")), {
    what: "a counter at 0 to be exported",
  });
  assert.deepEqual(
    collector.metrics.get("hark.consumer.dead_letters")!.points.map(({ attributes, value }) => ({
      ...attributes,
      value,
    })),
    [{ "messaging.consumer.group.name": "billing", value: 0 }],
  );
});

/**
 * Its handler ends its thread, or blocks it, as a payload says. One worker at a time serves it. Each begins when
 * the one before is stored: otherwise the next thread would handle that again, and count it.
 */
const fragile =
  `export const fragile = { id: "fragile", channels: ["orders", "trouble"], partitions: 1,
  lease: 2000, acknowledgeCount: 1, retry: () => 86_400_000,
  handle({ channel, payload }) {
    if (channel === "orders") return;
    if (payload === "ends") setTimeout(() => { throw new TypeError("an uncaught one"); });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
};
`;

test("no counter falls when a worker of hark listen ends, or gives no answer", async (c) => {
  const { url, admin, use } = c;
  const folder = use(await scratch());
  await writeModules(folder.path, { "fragile.ts": fragile });
  const shop = use(hark(["listen", folder.path, "--workers", "2"], {
    url: url.replace(/\?.*$/, ""),
    env: { HARK_METRICS: "0" },
  }));
  const [, address] = await shop.line(/^metrics at (\S+)\/metrics/);
  let before = new Map<string, number>();
  /** The sums as they are now. None may be less than it was. */
  const sums = async () => {
    const text = await (await fetch(`${address}/metrics`)).text();
    const lines = text.matchAll(/^(\w+_(?:total|count|bucket|sum)(?:\{.*\})?) (\S+)$/gm);
    const now = new Map([...lines].map(([, name, value]) => [name!, Number(value)]));
    for (const [name, value] of before) assert.ok(now.get(name)! >= value, `${name} falls`);
    return before = now;
  };
  const handled = async () =>
    [...await sums()].find(([name]) => /^messaging_client_consumed.*"orders"/.test(name))?.[1] ?? 0;
  const ready = async () => (await (await fetch(`${address}/readyz`)).json());
  for (const i of [1, 2]) {
    await until(async () => (await ready()).runs.length === 2, { what: "both workers" });
    await notify(admin, "orders", i);
    await until(async () => await handled() >= i, { what: `${i} counted notifications` });
    if (i === 1) {
      await notify(admin, "trouble", "ends");
      await shop.line(/ended and starts again/);
      await sums();
    }
  }
  await notify(admin, "trouble", "blocks");
  await until(async () => (await ready()).silent.length === 1, { what: "a silent worker" });
  assert.equal(await handled(), 2);
});
