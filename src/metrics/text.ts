/**
 * Measurements as the text of OpenMetrics 1.0, which Prometheus reads. Names are made as OpenTelemetry
 * makes them for Prometheus, so that dashboards fit both.
 *
 * @module
 */

import { keyOf, type Series } from "./registry.ts";
import { bounds, type Metric, type MetricName, metrics } from "./table.ts";

/** The media type of the text. */
export const mediaType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const units: Readonly<Record<string, string>> = { s: "seconds", By: "bytes", "1": "ratio" };

/** The name of a metric for Prometheus, without the endings of its samples. */
export function familyOf(name: MetricName): string {
  const unit = units[metrics[name].unit];
  return name.replaceAll(".", "_") + (unit === undefined ? "" : `_${unit}`);
}

/** The names of a metric's samples. */
export function samplesOf(name: MetricName): readonly string[] {
  const family = familyOf(name);
  switch (metrics[name].kind) {
    case "counter":
      return [`${family}_total`];
    case "gauge":
      return [family];
    case "histogram":
      return [`${family}_bucket`, `${family}_count`, `${family}_sum`];
  }
}

/** Writes measurements. Metrics without any are left out. */
export function textOf(all: readonly Series[]): string {
  const lines: string[] = [];
  const found = Map.groupBy(all, ({ metric }) => metric);
  for (const [name, metric] of Object.entries(metrics) as [MetricName, Metric][]) {
    const series = found.get(name);
    if (series === undefined) continue;
    const family = familyOf(name);
    const unit = units[metric.unit];
    lines.push(`# TYPE ${family} ${metric.kind}`);
    if (unit !== undefined) lines.push(`# UNIT ${family} ${unit}`);
    lines.push(`# HELP ${family} ${escaped(metric.about)}`);
    for (const one of series) lines.push(...linesOf(name, one));
  }
  return `${lines.join("\n")}${lines.length === 0 ? "" : "\n"}# EOF\n`;
}

function linesOf(name: MetricName, { about, value, sum = 0, buckets }: Series): string[] {
  const [sample, countSample, sumSample] = samplesOf(name);
  const labels = Object.entries(about)
    .map(([label, of]) => `${label.replaceAll(/\W/g, "_")}="${escaped(String(of))}"`);
  if (buckets === undefined) return [`${sample}${braced(labels)} ${value}`];
  let below = 0;
  return [
    ...buckets.map((count, i) => {
      below += count;
      return `${sample}${
        braced([...labels, `le="${bounds[i]!.toFixed(1 + decimals(bounds[i]!))}"`])
      } ${below}`;
    }),
    `${sample}${braced([...labels, 'le="+Inf"'])} ${value}`,
    `${countSample}${braced(labels)} ${value}`,
    `${sumSample}${braced(labels)} ${sum}`,
  ];
}

/** How many digits a bound needs beyond the first after its point. */
function decimals(bound: number): number {
  return Math.max(0, (String(bound).split(".")[1]?.length ?? 1) - 1);
}

function braced(labels: readonly string[]): string {
  return labels.length === 0 ? "" : `{${labels.join(",")}}`;
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

/** Puts the measurements of threads together: what each has a part of is added. */
export function merged(parts: readonly (readonly Series[])[]): Series[] {
  const all = new Map<string, Series>();
  for (const one of parts.flat()) {
    const key = `${one.metric}${keyOf(one.about)}`;
    const other = all.get(key);
    all.set(key, other === undefined ? one : together(other, one));
  }
  return [...all.values()];
}

/** Those that only rise. A sum that falls is taken for one that began anew. */
export function risingOf(all: readonly Series[]): Series[] {
  return all.filter(({ metric }) => metrics[metric].kind !== "gauge");
}

function together(a: Series, b: Series): Series {
  const { kind, isPartial = false }: Metric = metrics[a.metric];
  if (kind === "gauge" && !isPartial) return a.value >= b.value ? a : b;
  return {
    ...a,
    value: a.value + b.value,
    ...(a.sum === undefined || b.sum === undefined ? {} : { sum: a.sum + b.sum }),
    ...(a.buckets && b.buckets && { buckets: a.buckets.map((one, i) => one + b.buckets![i]!) }),
  };
}
