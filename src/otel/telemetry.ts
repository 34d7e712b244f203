/**
 * Turns OpenTelemetry on.
 *
 * @module
 */

import { install } from "../observe/install.ts";
import { Recorder } from "../metrics/recorder.ts";
import { OtelMeter } from "./meter.ts";
import { registered } from "./registered.ts";
import { settingsOf, type TelemetryOptions } from "./options.ts";
import { Spans } from "./spans.ts";

/** Telemetry that is on. Disposing of it turns it off. */
export interface Telemetry extends Disposable {
  /** Turns it off. What has begun is still told. */
  off(): void;
}

/** The telemetry that is on. A registered symbol: a program may hold several copies of this package. */
const key = Symbol.for("@hark/postgres:telemetry:1");
const state = globalThis as { [key]?: Telemetry };

/**
 * Tells OpenTelemetry what this process does with Hark: publishing through any driver, consumers,
 * handlers, leases. It uses the tracer and the meter that the program has registered with
 * OpenTelemetry's API before this call. Deno registers them itself if `OTEL_DENO=true` is set. If none is
 * registered, the call does nothing, and costs nothing.
 *
 * It is on for the whole process, for this copy of the package and others. A second call replaces the
 * first.
 *
 * @throws {HarkError} `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect, notify } from "@hark/postgres";
 * import { telemetry } from "@hark/postgres/otel";
 *
 * telemetry({ parent: "message" });
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await notify(db, "orders", { id: 42 }); // the span "send orders"
 * ```
 */
export function telemetry(options: TelemetryOptions = {}): Telemetry {
  const settings = settingsOf(options);
  state[key]?.off();
  const ends: (() => void)[] = [];
  const { traces, metrics } = registered();
  if (traces && settings.traces) ends.push(install(new Spans(settings)));
  if (metrics && settings.metrics) {
    const meter = new OtelMeter();
    ends.push(install(new Recorder(meter)), () => meter[Symbol.dispose]());
  }
  const off = () => {
    for (const end of ends.splice(0)) end();
    if (state[key] === on) delete state[key];
  };
  const on: Telemetry = { off, [Symbol.dispose]: off };
  return state[key] = on;
}
