/**
 * OpenTelemetry: {@linkcode telemetry} makes spans and measurements of what a process does with Hark,
 * and joins the trace that publishes with the trace that handles.
 *
 * @example
 * ```ts
 * import { telemetry } from "@hark/postgres/otel";
 *
 * telemetry(); // once, at the start of the program
 * ```
 *
 * @module
 */

export type { TelemetryOptions } from "./options.ts";
export { type Telemetry, telemetry } from "./telemetry.ts";
