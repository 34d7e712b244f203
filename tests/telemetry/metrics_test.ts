/** What an operator sees at /metrics, /livez and /readyz, and on the dashboard of Grafana. */

import assert from "node:assert/strict";
import { connect, Consumer, DeadLetter, notify, notifyMany, setRetention } from "../../mod.ts";
import { monitor } from "../../src/metrics/mod.ts";
import { metrics } from "../../src/metrics/table.ts";
import { samplesOf } from "../../src/metrics/text.ts";
import { streams } from "../../src/streams/mod.ts";
import { cutProxy, test, until } from "../harness/mod.ts";

type Ask = (request: Request) => Promise<Response>;

async function scrape(ask: Ask): Promise<string> {
  const response = await ask(new Request("http://localhost/metrics"));
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type")!, /^application\/openmetrics-text/);
  return await response.text();
}

/** The value of a sample; undefined if it is not there. */
function valueOf(text: string, sample: string, ...labels: string[]): number | undefined {
  const line = text.split("\n").find((one) =>
    one.startsWith(sample) && /^[{ ]/.test(one.slice(sample.length)) &&
    labels.every((label) => one.includes(label))
  );
  return line === undefined ? undefined : Number(line.split(" ").at(-1));
}

function samplesIn(text: string): Set<string> {
  return new Set(text.match(/^[a-z_]+(?=[{ ])/gm));
}

async function probe(ask: Ask, path: string) {
  const response = await ask(new Request(`http://localhost${path}`));
  return { status: response.status, ...await response.json() };
}

test("each metric comes from a running worker, the dashboard shows it, and the alert rules name no other", async ({ url, sql, use }) => {
  using ask = monitor();
  const db = use(await connect(url));
  await notify(db, "old", {});
  await sql("update hark.log set created_at = now() - interval '3 days'");
  await sql("select hark.register('idle', array['old'])");
  await setRetention(db, "1d");
  await sql("select hark.inbox_place('in', 'a stream', 0)");
  await sql("select hark.inbox_take('in', 'a stream', 0, 5, '[]', 7)");
  await sql("select hark.relay_place('idle', 0, 'a target', 0)");
  const done: number[] = [];
  const consumer = new Consumer(db, {
    id: "billing",
    channels: ["orders", "hopeless", "retried"],
    partitions: 3,
    retry: () => 1,
    handle({ id, channel, attempt }) {
      if (channel === "hopeless") throw new DeadLetter("never");
      if (attempt === 1 && channel === "retried") throw new TypeError("once");
      done.push(id);
    },
  });
  const end = new AbortController();
  const live = streams(db, { channels: "orders", signal: end.signal, authorize: () => true });
  const response = await live(new Request("http://localhost/?offset=now&live=sse"));
  const [one, readers] = [await scrape(ask), "hark_stream_readers"];
  assert.deepEqual([valueOf(one, "hark_stream_clients"), valueOf(one, readers)], [1, 1]);
  const running = consumer.run();
  await consumer.ready;
  // More than a client is given that takes nothing.
  await notify(db, "orders", { text: "x".repeat(100_000) }, { key: "a-key" });
  await notifyMany(db, [{ channel: "hopeless" }, { channel: "retried" }]);
  await until(() => Promise.resolve(done.length === 2), { what: "two handled notifications" });
  const known = Object.keys(metrics).flatMap((name) => samplesOf(name as keyof typeof metrics));
  let text = "";
  await until(async () => {
    text = await scrape(ask);
    const come = samplesIn(text);
    assert.deepEqual(known.filter((name) => !come.has(name)), []);
    // What of another partition is given up may come last, and so may the LISTEN connection.
    return valueOf(text, "hark_stream_sent_total") === 1 &&
      valueOf(text, "hark_consumer_dead_letters_total", 'name="billing"') === 1 &&
      valueOf(text, "hark_listener_connected") === 1;
  }, { what: "every metric" });
  await consumer.stop();
  await running;

  const about = 'messaging_consumer_group_name="billing"';
  assert.equal(valueOf(text, "messaging_client_consumed_messages_total", about, '"retried"'), 2);
  assert.equal(valueOf(text, "messaging_client_sent_messages_total", '"orders"'), 1);
  assert.equal(valueOf(text, "hark_consumer_retries_total", about), 1);
  assert.equal(valueOf(text, "hark_consumer_redelivered_total", about), 1);
  assert.equal(valueOf(text, "hark_consumer_dead_letters_total", about), 1);
  assert.equal(valueOf(text, "hark_takeovers_total", about), 0);
  assert.equal(valueOf(text, "hark_stream_clients"), 1);
  assert.equal(valueOf(text, "hark_stream_dropped_total"), 0);
  assert.equal(valueOf(text, "hark_partition_owned", about), 3);
  assert.equal(valueOf(text, "hark_listener_connected"), 1);
  assert.equal(valueOf(text, "hark_reporting"), 1);
  assert.equal(valueOf(text, "hark_consumer_workers", about), 1);
  assert.equal(valueOf(text, "hark_consumer_lag", '"idle"'), 1);
  const days = valueOf(text, "hark_consumer_lag_time_seconds", '"idle"')! / 86_400;
  assert.ok(days > 2.9 && days < 3.1, text);
  assert.equal(Math.round(valueOf(text, "hark_cleanup_held_back_seconds", '"idle"')! / 86_400), 2);
  assert.equal(
    valueOf(text, "messaging_process_duration_seconds_count", about, 'error_type="TypeError"'),
    1,
  );
  assert.ok(valueOf(text, "hark_delivery_latency_seconds_sum", about)! < 60);
  end.abort();
  assert.equal(valueOf(await scrape(ask), "hark_stream_dropped_total"), 1);
  await assert.rejects(Array.fromAsync(response.body!), /too slow/);
  assert.doesNotMatch(text, /a-key/);
  assert.match(text, /\n# EOF\n$/);

  const come = samplesIn(text);
  const guide = await Deno.readTextFile("docs/guide/telemetry.md");
  assert.deepEqual(Object.keys(metrics).filter((name) => !guide.includes(`\`${name}\``)), []);
  for (const file of ["ops/grafana.json", "ops/alerts.yml"]) {
    const named = new Set((await Deno.readTextFile(file)).match(/\b(hark|messaging)_\w+/g));
    for (const label of ["consumer_group_name", "destination_name", "operation_name"]) {
      named.delete(`messaging_${label}`);
    }
    for (const label of ["hark_cause", "hark_inbox"]) named.delete(label);
    assert.ok(named.size > 10, file);
    assert.deepEqual([...named].filter((name) => !come.has(name)), [], file);
    // A metric that the dashboard leaves out is seen by no one.
    const hasIt = (name: string) =>
      samplesOf(name as keyof typeof metrics).some((one) => named.has(one));
    if (file === "ops/grafana.json") {
      assert.deepEqual(Object.keys(metrics).filter((name) => !hasIt(name)), []);
    }
  }
});

test("one process of all reports how the database is, and another takes its place", async ({ sql, client }) => {
  const [one, other] = [crypto.randomUUID(), crypto.randomUUID()];
  const measure = async (process: string) =>
    (await sql("select hark.measure($1::uuid) as measured", [process]))[0].measured;
  assert.notEqual(await measure(one), null);
  assert.equal(await measure(other), null);
  assert.notEqual(await measure(one), null);
  await sql("update hark.reporter set until = now()");
  assert.notEqual(await measure(other), null);
  assert.equal(await measure(one), null);
  // A process that hangs in the middle keeps the others from waiting for it.
  const hung = await client();
  await hung.query("begin");
  await hung.query("select hark.measure($1::uuid)", [other]);
  assert.equal(await measure(one), null);
  await hung.query("rollback");
});

test("a delayed notification that a worker is about to deliver is not counted as overdue", async ({ admin, sql }) => {
  for (const channel of ["now", "late"]) await notify(admin, channel, {}, { delay: "1h" });
  const overdue = async () =>
    (await sql("select hark.measure(gen_random_uuid()) ->> 'due' as due"))[0].due;
  assert.equal(await overdue(), "0");
  await sql("update hark.delayed set deliver_at = now() - interval '2 s'");
  await sql("update hark.reporter set until = now()");
  assert.equal(await overdue(), "0");
  await sql(
    "update hark.delayed set deliver_at = now() - interval '11 s' where channel = 'late'",
  );
  await sql("update hark.reporter set until = now()");
  assert.equal(await overdue(), "1");
});

test("a worker is ready while it serves or stands by, and alive while its loop turns", async ({ url, use }) => {
  using ask = monitor();
  assert.deepEqual(await probe(ask, "/readyz"), {
    status: 503,
    ok: false,
    problems: ["no consumer runs"],
    runs: [],
    listening: 0,
    polling: 0,
    silent: [],
  });
  assert.equal((await probe(ask, "/livez")).status, 200);
  const proxy = use(cutProxy(Number(new URL(url).port || 5432), new URL(url).hostname));
  const db = use(await connect(proxy.through(url), { maxReconnectDelay: 50 }));
  const make = () => new Consumer(db, { id: "billing", channels: "orders", handle: () => {} });
  const [one, other] = [make(), make()];
  const running = [one.run()];
  await one.ready;
  running.push(other.run());
  await other.ready;
  const ready = await probe(ask, "/below/any/path/readyz");
  assert.equal(ready.status, 200);
  assert.deepEqual(
    ready.runs.map((run: { state: string }) => run.state),
    ["serving", "standing by"],
  );
  assert.equal(ready.listening, 1);

  proxy.refuse();
  await until(async () => {
    const lost = await probe(ask, "/readyz");
    return lost.status === 503 && lost.problems.includes("billing is reconnecting");
  }, { what: "a worker without a connection to be not ready" });
  assert.equal((await probe(ask, "/livez")).status, 200);
  proxy.resume();
  await until(async () => (await probe(ask, "/readyz")).status === 200, {
    what: "the workers to be ready again",
  });
  // Its LISTEN may come back after its heartbeats do.
  await until(async () => valueOf(await scrape(ask), "hark_listener_reconnects_total")! >= 1, {
    what: "the reconnection to be counted",
  });
  await Promise.all([one.stop(), other.stop()]);
  await Promise.all(running);
  assert.equal((await probe(ask, "/readyz")).status, 503);
});

test("what is no question to a monitor is refused", async () => {
  using ask = monitor();
  assert.equal((await ask(new Request("http://localhost/"))).status, 404);
  const posted = await ask(new Request("http://localhost/metrics", { method: "POST" }));
  assert.equal(posted.status, 405);
  assert.equal(posted.headers.get("allow"), "GET, HEAD");
  assert.throws(() => monitor({ maxSilence: "1s" }), { code: "BAD_OPTION", message: /maxSilence/ });
});
