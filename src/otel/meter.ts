/**
 * Gives measurements to OpenTelemetry.
 *
 * @module
 */

import {
  type BatchObservableCallback,
  type Counter,
  type Histogram,
  metrics as api,
  type Observable,
} from "@opentelemetry/api";
import config from "../../deno.json" with { type: "json" };
import { look } from "../metrics/gauges.ts";
import type { Sink } from "../metrics/recorder.ts";
import { bounds, gauges, type MetricName, metrics } from "../metrics/table.ts";
import { noneYet } from "../metrics/zeros.ts";
import type { About } from "../observe/seam.ts";
import { scope } from "./attributes.ts";

/** The meter. Instruments are made when they are used first. */
export class OtelMeter implements Sink, Disposable {
  readonly #meter = api.getMeter(scope, config.version);
  readonly #counters = new Map<MetricName, Counter>();
  readonly #histograms = new Map<MetricName, Histogram>();
  readonly #gauges = new Map<MetricName, Observable>();
  readonly #callback: BatchObservableCallback = async (result) => {
    for (const { metric, value, about } of noneYet()) this.add(metric, value, about);
    for (const { metric, value, about } of await look(true)) {
      const gauge = this.#gauges.get(metric);
      if (gauge !== undefined) result.observe(gauge, value, about);
    }
  };

  constructor() {
    for (const name of gauges) {
      const { unit, about: description } = metrics[name];
      this.#gauges.set(name, this.#meter.createObservableGauge(name, { unit, description }));
    }
    this.#meter.addBatchObservableCallback(this.#callback, [...this.#gauges.values()]);
  }

  add(metric: MetricName, value: number, about: About): void {
    let counter = this.#counters.get(metric);
    if (counter === undefined) {
      const { unit, about: description } = metrics[metric];
      counter = this.#meter.createCounter(metric, { unit, description });
      this.#counters.set(metric, counter);
    }
    counter.add(value, about);
  }

  record(metric: MetricName, value: number, about: About): void {
    let histogram = this.#histograms.get(metric);
    if (histogram === undefined) {
      const { unit, about: description } = metrics[metric];
      histogram = this.#meter.createHistogram(metric, {
        unit,
        description,
        advice: { explicitBucketBoundaries: [...bounds] },
      });
      this.#histograms.set(metric, histogram);
    }
    histogram.record(value, about);
  }

  [Symbol.dispose](): void {
    this.#meter.removeBatchObservableCallback(this.#callback, [...this.#gauges.values()]);
  }
}
