/** One trace from a publisher to a handler on Node.js, by OpenTelemetry's own SDK. */

import assert from "node:assert/strict";
import { spawn, test, until } from "../harness/mod.ts";
import { Collector } from "./_support/collector.ts";
import { nodePath, nodeProject } from "./_support/node.ts";

const program = `
import { NodeSDK } from "@opentelemetry/sdk-node";
import { trace } from "@opentelemetry/api";
import { connect, Consumer, notify } from "./mod.ts";
import { telemetry } from "./src/otel/mod.ts";

const sdk = new NodeSDK();
sdk.start();
telemetry(JSON.parse(process.argv[2]));
const tracer = trace.getTracer("shop");
{
  await using db = await connect(process.env.DATABASE_URL);
  await tracer.startActiveSpan("checkout", async (span) => {
    await notify(db, "orders", { secret: "a payload" }, { key: "order-1" });
    span.end();
  });
  const billing = new Consumer(db, {
    id: "billing",
    channels: "orders",
    from: "beginning",
    async handle() {
      await tracer.startActiveSpan("charge", async (span) => span.end());
    },
  });
  await billing.drain();
}
await sdk.shutdown();
console.log("done");
`;

const packages = { "@opentelemetry/sdk-node": "0.301.0" };

test("on Node.js the SDK exports a trace that leads from the publisher to the handler", {
  ignore: nodePath === undefined,
  timeout: 240_000,
}, async ({ url, use, sql }) => {
  const folder = use(
    await nodeProject(program, ["pg", "@logtape/logtape", "@opentelemetry/api"], packages),
  );
  const run = async (options: object) => {
    const collector = use(new Collector());
    const child = use(spawn(nodePath!, ["program.ts", JSON.stringify(options)], {
      cwd: folder.path,
      env: { ...collector.sdkEnv, DATABASE_URL: url },
    }));
    const { code, stdout, stderr } = await child.ended({ deadline: 60_000 });
    assert.equal(code, 0, stderr);
    assert.equal(stdout, "done\n");
    return {
      collector,
      checkout: await collector.only("checkout"),
      sent: await collector.only("send orders"),
      handled: await collector.only("process orders"),
      charge: await collector.only("charge"),
    };
  };

  const linked = await run({});
  assert.equal(linked.sent.parent, linked.checkout.spanId);
  assert.deepEqual(linked.handled.links, [
    { traceId: linked.sent.traceId, spanId: linked.sent.spanId },
  ]);
  assert.notEqual(linked.handled.traceId, linked.sent.traceId);
  assert.equal(linked.charge.parent, linked.handled.spanId);
  assert.equal(linked.handled.kind, "consumer");
  assert.equal(linked.handled.attributes["hark.outcome"], "handled");
  assert.doesNotMatch(linked.collector.text, /a payload|order-1/);
  await until(() => linked.collector.metrics.has("messaging.process.duration"), {
    what: "the metrics",
  });

  await sql("select hark.remove_consumer('billing')");
  await sql("delete from hark.log");
  const joined = await run({ parent: "message" });
  const traces = [joined.checkout, joined.sent, joined.handled, joined.charge].map((one) =>
    one.traceId
  );
  assert.equal(new Set(traces).size, 1);
  assert.equal(joined.handled.parent, joined.sent.spanId);
  assert.deepEqual(joined.handled.links, []);
});
