/**
 * Every metric: its kind, its unit and what it tells. Names and units are OpenTelemetry's.
 *
 * @module
 */

/** What there is to know about a metric. */
export interface Metric {
  /**
   * - `"counter"`: a sum that only rises.
   * - `"gauge"`: a value as it is now.
   * - `"histogram"`: how often values lay within bounds.
   */
  readonly kind: "counter" | "gauge" | "histogram";
  /** The unit, as UCUM writes it: `s`, `By`, `1` for a share, `{message}` for a number of messages. */
  readonly unit: string;
  /** What it tells. */
  readonly about: string;
  /** Whether threads of a program each have a part of it, rather than all the same. */
  readonly isPartial?: boolean;
}

const counter = (unit: string, about: string): Metric => ({ kind: "counter", unit, about });
const histogram = (about: string): Metric => ({ kind: "histogram", unit: "s", about });
const gauge = (unit: string, about: string): Metric => ({ kind: "gauge", unit, about });
const part = (unit: string, about: string): Metric => ({ ...gauge(unit, about), isPartial: true });

/** What happens in a process. */
const counted = {
  "messaging.client.sent.messages": counter(
    "{message}",
    "Notifications that were published by a call, whether or not its transaction committed.",
  ),
  "messaging.client.consumed.messages": counter(
    "{message}",
    "Notifications given to handlers, once for each attempt.",
  ),
  "messaging.client.operation.duration": histogram(
    "How long publishing, receiving and storing progress took.",
  ),
  "messaging.process.duration": histogram("How long handlers took."),
  "hark.delivery.latency": histogram(
    "From publishing to the start of the handler, of what was published while the worker ran.",
  ),
  "hark.consumer.retries": counter("{message}", "Failed attempts that will be repeated."),
  "hark.consumer.dead_letters": counter("{message}", "Notifications that were given up."),
  "hark.consumer.redelivered": counter("{message}", "Attempts after the first."),
  "hark.takeovers": counter("{partition}", "Partitions taken over from a worker that had ended."),
  "hark.fenced": counter("{partition}", "Partitions lost to another worker, or by a seek."),
  "hark.listener.reconnects": counter(
    "{connection}",
    "Times the LISTEN connection was opened again.",
  ),
  "hark.wakeups": counter("{wakeup}", "Times a worker stopped waiting, by the cause."),
  "hark.stream.sent": counter("{message}", "Notifications sent to clients of streams."),
  "hark.stream.dropped": counter("{client}", "Clients of streams that were cut off as too slow."),
} as const satisfies Readonly<Record<string, Metric>>;

/** How a process is now. */
const ofProcess = {
  "hark.consumer.in_flight": part("{call}", "Calls of handlers that run."),
  "hark.partition.owned": part("{partition}", "Partitions that the process serves."),
  "hark.listener.connected": part("{connection}", "LISTEN connections that deliver."),
  "hark.connections": part("{connection}", "Connections to the database that are open."),
  "hark.stream.clients": part("{client}", "Clients of streams that are connected."),
  "hark.stream.readers": part(
    "{reader}",
    "Sets of channels that clients of streams read together.",
  ),
  "hark.reporting": gauge(
    "{process}",
    "1 if this process reports how the database is, -1 if it sleeps and does not ask, else 0.",
  ),
} as const satisfies Readonly<Record<string, Metric>>;

/** How a database is now: see hark.measure. */
const ofDatabase = {
  "hark.consumer.lag": gauge(
    "{message}",
    "Notifications after the consumer's position, without those that wait.",
  ),
  "hark.consumer.lag.time": gauge(
    "s",
    "The age of the oldest notification that is not handled, also of one that waits.",
  ),
  "hark.consumer.waiting": gauge("{message}", "Notifications to be retried or replayed."),
  "hark.consumer.dead": gauge("{message}", "Dead letters."),
  "hark.consumer.workers": gauge("{worker}", "Workers that are alive."),
  "hark.inbox.dead": gauge("{message}", "Messages of a stream that could not be published."),
  "hark.inbox.lag": gauge(
    "{message}",
    "Messages that the stream had left when the inbox last took some.",
  ),
  "hark.inbox.stuck": gauge(
    "s",
    "For how long the inbox has waited for its server, or for the database.",
  ),
  "hark.relay.stuck": gauge("s", "For how long the relay has waited for its target."),
  "hark.relay.endpoints.failing": gauge(
    "{endpoint}",
    "Endpoints of webhooks that fail or are throttled, and are asked again.",
  ),
  "hark.relay.endpoints.disabled": gauge(
    "{endpoint}",
    "Endpoints of webhooks that are disabled: what they would get becomes a dead letter.",
  ),
  "hark.log.size": gauge("By", "The size of the log, with its indexes."),
  "hark.log.rows": gauge("{message}", "Notifications in the log, about."),
  "hark.cleanup.held_back": gauge(
    "s",
    "For how long the consumer has kept the oldest notification beyond the retention.",
  ),
  "hark.server.notify_queue.usage": gauge("1", "The used share of the server's NOTIFY queue."),
  "hark.server.horizon.age": gauge("s", "The age of the server's oldest open transaction."),
  "hark.delayed.due": gauge("{message}", "Delayed notifications that have been due for 10 s."),
} as const satisfies Readonly<Record<string, Metric>>;

/** Every metric, by its name. */
export const metrics = { ...counted, ...ofProcess, ...ofDatabase };

/** The name of a metric. */
export type MetricName = keyof typeof metrics;

/** The names of metrics with values as they are now. */
export const gauges = Object.entries(metrics).filter(([, { kind }]) => kind === "gauge")
  .map(([name]) => name as MetricName);

/** The bounds of histograms, in seconds: as the conventions for messaging have them. */
export const bounds: readonly number[] = [
  ...[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  ...[30, 60, 300, 3600],
];

/** Whether a metric of this name can be added to. */
export function isCounter(name: string): name is MetricName {
  return Object.hasOwn(counted, name);
}
