/**
 * A small collector of OpenTelemetry: takes what programs export by OTLP over HTTP, as JSON.
 *
 * @module
 */

import { until } from "../../harness/mod.ts";

type Value = string | number | boolean;

/** A span, as it was exported. */
export interface CollectedSpan {
  readonly name: string;
  readonly kind: "internal" | "server" | "client" | "producer" | "consumer";
  readonly traceId: string;
  readonly spanId: string;
  readonly parent: string | undefined;
  readonly isError: boolean;
  readonly message: string;
  readonly attributes: Readonly<Record<string, Value>>;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly events: readonly string[];
}

/** A metric, as it was exported last. */
export interface CollectedMetric {
  readonly name: string;
  readonly unit: string;
  readonly kind: "counter" | "updown" | "gauge" | "histogram";
  readonly points: readonly {
    readonly attributes: Readonly<Record<string, Value>>;
    /** Of a histogram, how often it was recorded. */
    readonly value: number;
    /** Of a histogram. */
    readonly sum: number;
    readonly bounds: readonly number[];
  }[];
}

const kinds = ["internal", "internal", "server", "client", "producer", "consumer"] as const;

// deno-lint-ignore no-explicit-any -- OTLP as JSON
type Json = any;

/** The collector. */
export class Collector implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly spans: CollectedSpan[] = [];
  readonly metrics = new Map<string, CollectedMetric>();
  /** The whole text of all that was exported. */
  text = "";

  constructor() {
    this.#server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
      return this.#take(request);
    });
  }

  /** What makes Deno export to this collector. */
  get env(): Record<string, string> {
    return {
      OTEL_DENO: "true",
      OTEL_SERVICE_NAME: "shop",
      OTEL_DENO_CONSOLE: "ignore",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${this.#server.addr.port}`,
      OTEL_METRIC_EXPORT_INTERVAL: "500",
    };
  }

  /** What makes the SDK of Node.js export to this collector. */
  get sdkEnv(): Record<string, string> {
    const { OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL } = this.env;
    return {
      OTEL_SERVICE_NAME: "shop",
      OTEL_EXPORTER_OTLP_ENDPOINT: OTEL_EXPORTER_OTLP_ENDPOINT!,
      OTEL_EXPORTER_OTLP_PROTOCOL: OTEL_EXPORTER_OTLP_PROTOCOL!,
      OTEL_TRACES_EXPORTER: "otlp",
      OTEL_METRICS_EXPORTER: "otlp",
      OTEL_LOGS_EXPORTER: "none",
      OTEL_METRIC_EXPORT_INTERVAL: "500",
      OTEL_METRIC_EXPORT_TIMEOUT: "400",
      OTEL_NODE_RESOURCE_DETECTORS: "none",
    };
  }

  /** The spans of a name. */
  named(name: string): CollectedSpan[] {
    return this.spans.filter((span) => span.name === name);
  }

  /** The only span of a name, once it is there. */
  async only(name: string): Promise<CollectedSpan> {
    await until(() => this.named(name).length > 0, { what: `a span "${name}"` });
    const [span, ...others] = this.named(name);
    if (others.length > 0) throw new Error(`there are ${others.length + 1} spans "${name}"`);
    return span!;
  }

  async #take(request: Request): Promise<Response> {
    const text = await request.text();
    this.text += text;
    const body: Json = JSON.parse(text);
    for (const { scopeSpans } of body.resourceSpans ?? []) {
      for (const { scope, spans } of scopeSpans) {
        if (scope.name !== "deno") this.spans.push(...spans.map(spanOf));
      }
    }
    for (const { scopeMetrics } of body.resourceMetrics ?? []) {
      for (const { scope, metrics } of scopeMetrics) {
        if (scope.name !== "@hark/postgres") continue;
        for (const metric of metrics) this.metrics.set(metric.name, metricOf(metric));
      }
    }
    return Response.json({});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

function spanOf(span: Json): CollectedSpan {
  return {
    name: span.name,
    kind: kinds[span.kind]!,
    traceId: span.traceId,
    spanId: span.spanId,
    parent: span.parentSpanId || undefined,
    isError: span.status?.code === 2,
    message: span.status?.message ?? "",
    attributes: attributesOf(span.attributes),
    links: span.links.map(({ traceId, spanId }: Json) => ({ traceId, spanId })),
    events: span.events.map(({ name }: Json) => name),
  };
}

function metricOf({ name, unit, sum, gauge, histogram }: Json): CollectedMetric {
  const kind = histogram ? "histogram" : gauge ? "gauge" : sum.isMonotonic ? "counter" : "updown";
  return {
    name,
    unit,
    kind,
    points: (histogram ?? gauge ?? sum).dataPoints.map((point: Json) => ({
      attributes: attributesOf(point.attributes),
      value: Number(point.count ?? point.asDouble ?? point.asInt),
      sum: point.sum ?? NaN,
      bounds: point.explicitBounds ?? [],
    })),
  };
}

function attributesOf(list: Json): Record<string, Value> {
  return Object.fromEntries(list.map(({ key, value }: Json) => {
    const { stringValue, boolValue, intValue, doubleValue } = value;
    return [key, stringValue ?? boolValue ?? Number(intValue ?? doubleValue)];
  }));
}
