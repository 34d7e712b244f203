/**
 * Whether OpenTelemetry is there. This module does not load its API.
 *
 * @module
 */

/** What can be registered with the API. */
interface Registered {
  readonly trace?: unknown;
  readonly metrics?: unknown;
}

/** Where the API, version 1, keeps what is registered with it. */
const key = Symbol.for("opentelemetry.js.api.1");

/** What is registered: by an SDK, or by Deno if `OTEL_DENO=true` is set. */
export function registered(): { readonly traces: boolean; readonly metrics: boolean } {
  const { trace, metrics } = (globalThis as { [key]?: Registered })[key] ?? {};
  return { traces: trace !== undefined, metrics: metrics !== undefined };
}
