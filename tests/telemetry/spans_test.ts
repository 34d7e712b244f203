/** What an operator sees in traces. */

import assert from "node:assert/strict";
import { watch } from "../../mod.ts";
import { spawnDeno, test, type TestContext } from "../harness/mod.ts";
import { type CollectedSpan, Collector } from "./_support/collector.ts";

/** Runs a scene of the shop to its end, and gives what it has exported. */
async function run(
  { url, use }: TestContext,
  scene: string,
  options: Record<string, unknown> = {},
): Promise<Collector> {
  const collector = use(new Collector());
  const args = ["tests/telemetry/_support/shop.ts", scene, JSON.stringify(options)];
  const shop = use(spawnDeno(args, { env: { ...collector.env, DATABASE_URL: url } }));
  const { code, stderr } = await shop.ended();
  assert.equal(code, 0, stderr);
  return collector;
}

function at({ traceId, spanId }: CollectedSpan): { traceId: string; spanId: string } {
  return { traceId, spanId };
}

test("what a program publishes and handles can be followed", async (c) => {
  const shop = await run(c, "trade");
  await c.t.step("a trace leads from the publisher to the handler and on", async () => {
    const [checkout] = shop.named("checkout");
    const sent = shop.named("send orders");
    const first = sent.find(({ parent }) => parent === checkout!.spanId)!;
    assert.equal(first.kind, "producer");
    assert.equal(first.traceId, checkout!.traceId);
    const { "messaging.message.id": id, "server.port": port, ...known } = first.attributes;
    const url = new URL(c.url);
    assert.deepEqual(known, {
      "messaging.system": "hark",
      "messaging.operation.name": "send",
      "messaging.operation.type": "send",
      "messaging.destination.name": "orders",
      "server.address": url.hostname,
      "db.namespace": c.database,
    });
    assert.equal(port, Number(url.port || 5432));

    const handled = shop.named("process orders");
    const its = handled.find((span) => span.attributes["messaging.message.id"] === id)!;
    assert.equal(its.kind, "consumer");
    assert.deepEqual(its.links, [at(first)]);
    assert.equal(its.parent, undefined);
    assert.notEqual(its.traceId, first.traceId);
    assert.equal(its.attributes["messaging.consumer.group.name"], "billing");
    assert.equal(its.attributes["messaging.destination.partition.id"], "0");
    assert.equal(its.attributes["hark.attempt"], 1);
    assert.equal(its.attributes["hark.replay"], true);
    assert.equal(its.attributes["hark.outcome"], "handled");
    assert.match(String(its.attributes["messaging.client.id"]), /:\d+$/);

    // The handler's own spans are children, and what it publishes goes on in the same trace.
    const charge = shop.named("charge").find(({ parent }) => parent === its.spanId)!;
    const receipt = shop.named("send receipts").find(({ parent }) => parent === charge.spanId)!;
    assert.equal(receipt.traceId, its.traceId);

    // A caller that names a trace keeps it.
    const rows = await c.sql("select headers from hark.log where channel = 'orders' order by id");
    assert.equal(rows[0].headers.traceparent, `00-${first.traceId}-${first.spanId}-01`);
    assert.deepEqual(rows[1].headers, {
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      shop: 7,
    });
    assert.ok(handled.some(({ links: [link] }) => link?.spanId === "b7ad6b7169203331"));

    const [received] = shop.named("receive");
    assert.equal(received!.kind, "client");
    assert.equal(received!.attributes["messaging.batch.message_count"], 4);
    assert.equal(received!.links.length, 4);
  });
  await c.t.step("no payload, no key and no text of an error is told", () => {
    assert.doesNotMatch(shop.text, /payload-of|order-1/);
    assert.equal(shop.named("settle").length, 0);
  });
  await c.t.step("each attempt has a span that says what became of it", () => {
    const attempts = shop.named("process retried")
      .toSorted((a, b) =>
        Number(a.attributes["hark.attempt"]) - Number(b.attributes["hark.attempt"])
      );
    assert.deepEqual(
      attempts.map(({ attributes, isError }) => [
        attributes["hark.attempt"],
        attributes["hark.outcome"],
        attributes["error.type"],
        isError,
      ]),
      [[1, "retry", "TypeError", true], [2, "handled", undefined, false]],
    );
    const [sent] = shop.named("send retried");
    for (const { links } of attempts) assert.deepEqual(links, [at(sent!)]);
    const [hopeless] = shop.named("process hopeless");
    assert.equal(hopeless!.attributes["hark.outcome"], "dead_letter");
    assert.equal(hopeless!.attributes["error.type"], "DeadLetter");
    for (const name of ["hark.claim"]) assert.equal(shop.named(name)[0]!.kind, "internal");
  });
  await c.t.step("what was published and handled is counted and timed", () => {
    const { metrics } = shop;
    const sum = (name: string) =>
      metrics.get(name)!.points.reduce((all, { value }) => all + value, 0);
    assert.equal(sum("messaging.client.sent.messages"), 6);
    assert.equal(sum("messaging.client.consumed.messages"), 5);
    assert.equal(sum("hark.consumer.retries"), 1);
    assert.equal(sum("hark.consumer.dead_letters"), 1);
    const took = metrics.get("messaging.process.duration")!;
    assert.deepEqual([took.kind, took.unit], ["histogram", "s"]);
    assert.equal(took.points[0]!.bounds[0], 0.005);
    const failed = took.points.find(({ attributes }) => attributes["error.type"] === "TypeError")!;
    assert.deepEqual(failed.attributes, {
      "messaging.system": "hark",
      "messaging.operation.name": "process",
      "messaging.destination.name": "retried",
      "messaging.consumer.group.name": "billing",
      "error.type": "TypeError",
    });
    assert.equal(metrics.get("hark.consumer.retries")!.unit, "{message}");
  });
});

test("keys, the text of errors and one trace for all are told if asked", async (c) => {
  const open = await run(c, "trade", { keys: true, errors: true, settle: true, parent: "message" });
  const failed = open.named("process retried").find(({ isError }) => isError)!;
  assert.equal(failed.message, "payload-of-3 is wrong");
  assert.deepEqual(failed.events, ["exception"]);
  const keyed = open.named("process orders").filter(({ attributes }) => attributes["hark.key"]);
  assert.equal(keyed.at(-1)!.attributes["hark.key"], "order-1");
  // Everything is one trace, from the publisher on.
  const checkout = open.named("checkout")[0]!;
  const sent = open.named("send orders").find(({ parent }) => parent === checkout.spanId)!;
  const child = open.named("process orders").find(({ parent }) => parent === sent.spanId)!;
  assert.equal(child.traceId, checkout.traceId);
  const [settle] = open.named("settle");
  assert.equal(settle!.kind, "client");
});

test("a batch is sent under one span, and handled under one with a link for each trace", async (c) => {
  const shop = await run(c, "batch");
  const sent = await shop.only("send");
  assert.equal(sent.kind, "client");
  assert.equal(sent.parent, shop.named("import")[0]!.spanId);
  assert.equal(sent.attributes["messaging.batch.message_count"], 3);
  const handled = await shop.only("process");
  assert.equal(handled.kind, "consumer");
  assert.equal(handled.attributes["messaging.batch.message_count"], 3);
  assert.deepEqual(handled.links, [
    at(sent),
    { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" },
  ]);
});

test("a trace leads through a table change, and through another driver", async (c) => {
  await c.sql("create table customers (id integer primary key, name text)");
  await watch(c.admin, "customers", { channel: "customers" });
  const shop = await run(c, "foreign");
  const [rename] = shop.named("rename");
  const changed = await shop.only("process customers");
  assert.deepEqual(changed.links, [at(rename!)]);
  const [{ headers }] = await c.sql("select headers from hark.log where channel = 'customers'");
  assert.deepEqual(headers, {
    userId: 7,
    traceparent: `00-${rename!.traceId}-${rename!.spanId}-01`,
  });
  const sent = await shop.only("send refunds");
  assert.equal(sent.parent, shop.named("refund")[0]!.spanId);
  assert.equal(sent.attributes["db.namespace"], c.database);
  assert.deepEqual((await shop.only("process refunds")).links, [at(sent)]);
});

test("a change of the schema and a cleanup have spans", { schema: false }, async (c) => {
  const shop = await run(c, "upkeep");
  const [deploy] = shop.named("deploy");
  for (const name of ["hark.migrate", "hark.cleanup"]) {
    const span = await shop.only(name);
    assert.equal(span.kind, "internal");
    assert.equal(span.parent, deploy!.spanId);
    assert.equal(span.attributes["db.namespace"], c.database);
  }
});
