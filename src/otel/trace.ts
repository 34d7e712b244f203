/**
 * Traces in the headers of notifications.
 *
 * @module
 */

import {
  type Context,
  type Link,
  propagation,
  ROOT_CONTEXT,
  type SpanContext,
  trace,
} from "@opentelemetry/api";
import type { Carried } from "../observe/seam.ts";

/** The most links of a span. OpenTelemetry drops what is beyond. */
const maxLinks = 128;

/** The headers that carry a context. None if the context has no trace. */
export function headersOf(context: Context): Carried {
  const span = trace.getSpanContext(context);
  const carried: Record<string, string> = {};
  if (span !== undefined && trace.isSpanContextValid(span)) propagation.inject(context, carried);
  return carried;
}

/** A `traceparent` of version 00, which names a trace and a span: neither is all zeros. */
const plain = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

/** The context in which a notification was published. Undefined if its headers name none. */
export function creationOf(headers: Readonly<Record<string, unknown>>): SpanContext | undefined {
  const { traceparent, tracestate } = headers;
  if (typeof traceparent !== "string") return undefined;
  // The propagator takes ten times as long. What is not plain is left to it.
  const parts = tracestate === undefined ? plain.exec(traceparent) : null;
  if (parts !== null) {
    const [, traceId, spanId, flags] = parts as unknown as [string, string, string, string];
    return { traceId, spanId, traceFlags: parseInt(flags, 16), isRemote: true };
  }
  const span = trace.getSpanContext(propagation.extract(ROOT_CONTEXT, headers, {
    get: (_, name) => typeof headers[name] === "string" ? headers[name] as string : undefined,
    keys: () => Object.keys(headers),
  }));
  return span !== undefined && trace.isSpanContextValid(span) ? span : undefined;
}

/** Links to the contexts in which notifications were published, each once. */
export function linksTo(all: Iterable<SpanContext | undefined>): Link[] {
  if (Array.isArray(all) && all.length === 1) {
    return all[0] === undefined ? [] : [{ context: all[0] }];
  }
  const links = new Map<string, Link>();
  for (const context of all) {
    if (context === undefined) continue;
    links.set(`${context.traceId}${context.spanId}`, { context });
    if (links.size === maxLinks) break;
  }
  return [...links.values()];
}
