/** Turning telemetry on and off. */

import assert from "node:assert/strict";
import { ProxyTracerProvider, trace } from "@opentelemetry/api";
import { seam } from "../../src/observe/seam.ts";
import { monitor } from "../../src/metrics/mod.ts";
import { telemetry } from "../../src/otel/mod.ts";
import { importsIn } from "../checks/cycles.ts";

Deno.test("telemetry is off until it is turned on, and off again after", () => {
  assert.equal(seam.observer, undefined);
  trace.setGlobalTracerProvider(new ProxyTracerProvider());
  const first = telemetry();
  const on = seam.observer;
  assert.notEqual(on, undefined);
  const second = telemetry({ parent: "message" });
  assert.notEqual(seam.observer, on);
  first.off(); // replaced by the second, which stays
  assert.notEqual(seam.observer, undefined);
  {
    using _metrics = monitor();
    second.off();
    assert.notEqual(seam.observer, undefined);
  }
  assert.equal(seam.observer, undefined);
  using _none = telemetry({ traces: false });
  assert.equal(seam.observer, undefined);
  trace.disable();
});

Deno.test("where no OpenTelemetry is, telemetry() costs nothing", () => {
  using _telemetry = telemetry();
  assert.equal(seam.observer, undefined);
});

Deno.test("a wrong option is refused before anything changes", () => {
  const wrong: [unknown, RegExp][] = [
    [{ parent: "trace" }, /parent is "trace"\. Give one of: none, message\./],
    [{ settle: 1 }, /settle is 1\. Give true or false\./],
    [{ key: true }, /no option "key"\. Did you mean keys\?/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => telemetry(options as never), { code: "BAD_OPTION", message });
  }
  assert.equal(seam.observer, undefined);
});

Deno.test("what publishes or consumes loads neither OpenTelemetry nor what measures", async () => {
  const imports = await importsIn("src");
  const reached = new Set<string>();
  const visit = (path: string) => {
    if (reached.has(path)) return;
    reached.add(path);
    for (const next of imports.get(path) ?? []) visit(next);
  };
  visit("mod.ts");
  assert.ok(reached.has("src/observe/seam.ts"));
  assert.deepEqual([...reached].filter((path) => /^src\/(otel|metrics)\//.test(path)), []);
});
