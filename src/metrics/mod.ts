/**
 * Metrics and probes over HTTP, without OpenTelemetry: {@linkcode monitor} makes a handler of requests
 * that answers `/metrics`, `/livez` and `/readyz`.
 *
 * @example
 * ```ts
 * import { monitor } from "@hark/postgres/metrics";
 *
 * Deno.serve({ port: 9464 }, monitor());
 * ```
 *
 * @module
 */

export { type Monitor, monitor } from "./monitor.ts";
export type { MonitorOptions } from "./options.ts";
