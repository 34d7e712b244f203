/**
 * Counters of what has not happened yet.
 *
 * @module
 */

import { ofConsumer, seam } from "../observe/seam.ts";
import type { Series } from "./registry.ts";
import type { MetricName } from "./table.ts";

const ofConsumers: readonly MetricName[] = [
  "hark.consumer.retries",
  "hark.consumer.dead_letters",
  "hark.consumer.redelivered",
  "hark.takeovers",
  "hark.fenced",
];

const ofStreams: readonly MetricName[] = ["hark.stream.sent", "hark.stream.dropped"];

/** Counters at 0: of one that begins with 1, Prometheus sees no increase. */
export function noneYet(): Series[] {
  const consumers = new Set([...seam.runs].map(({ consumer }) => consumer));
  return [
    { metric: "hark.listener.reconnects", about: {}, value: 0 },
    ...seam.streams.size === 0 ? [] : ofStreams.map((metric) => ({ metric, about: {}, value: 0 })),
    ...[...consumers].flatMap((consumer) =>
      ofConsumers.map((metric) => ({ metric, about: ofConsumer(consumer), value: 0 }))
    ),
  ];
}
