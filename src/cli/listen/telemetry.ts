/**
 * Turns OpenTelemetry on for `hark listen`.
 *
 * @module
 */

import { registered } from "../../otel/registered.ts";

/**
 * Turns telemetry on if OpenTelemetry is there: Deno registers its own at the start if `OTEL_DENO=true` is
 * set. To look for that takes no right to read the variable. A module of consumers may call
 * `telemetry()` with options of its own.
 */
export async function turnOnTelemetry(): Promise<void> {
  const { traces, metrics } = registered();
  if (!traces && !metrics) return;
  const { telemetry } = await import("../../otel/mod.ts");
  telemetry();
}
