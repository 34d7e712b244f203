/**
 * Measures what Hark does.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { errorType } from "../observe/error_type.ts";
import type { ObservedRun } from "../observe/run.ts";
import {
  type About,
  type Carried,
  type Handling,
  type Internal,
  type ObservedCall,
  type ObservedNotification,
  type Observer,
  ofConsumer,
  type Outcome,
  type Publishing,
  type Received,
  type Sent,
} from "../observe/seam.ts";
import { isCounter, type MetricName } from "./table.ts";

/** What takes measurements: the text of /metrics, or OpenTelemetry. */
export interface Sink {
  /** Adds to a counter. */
  add(metric: MetricName, value: number, about: About): void;
  /** Records a value of a histogram. */
  record(metric: MetricName, value: number, about: About): void;
}

/** Facts of one operation on one channel, which are made once. */
const known = new Map<string, About>();
/** More operations, channels and consumers than a program has: their facts are made each time. */
const mostKnown = 10_000;

function aboutOperation(
  name: string,
  channel: string | undefined,
  consumer?: string,
  error?: string,
): About {
  const key = `${name}\0${channel ?? ""}\0${consumer ?? ""}\0${error ?? ""}`;
  let about = known.get(key);
  if (about === undefined) {
    about = {
      "messaging.system": "hark",
      "messaging.operation.name": name,
      ...(channel === undefined ? {} : { "messaging.destination.name": channel }),
      ...(consumer === undefined ? {} : ofConsumer(consumer)),
      ...(error === undefined ? {} : { "error.type": error }),
    };
    if (known.size < mostKnown) known.set(key, about);
  }
  return about;
}

/** Measures publishing, reading, handlers and the storing of progress. */
export class Recorder implements Observer {
  readonly #sink: Sink;

  constructor(sink: Sink) {
    this.#sink = sink;
  }

  carry(): Carried {
    return {};
  }

  async publish(
    { channel, batch }: Publishing,
    send: (carried: Carried) => Promise<readonly Sent[]>,
  ): Promise<readonly Sent[]> {
    return await this.#timed("send", channel, undefined, () => send({}), (sent, about) => {
      const count = batch === undefined ? 1 : sent.length;
      this.#sink.add("messaging.client.sent.messages", count - duplicates(sent), about);
    });
  }

  handle(what: Handling): ObservedCall {
    return new MeasuredCall(this.#sink, what);
  }

  received({ run, rows, took }: Received): void {
    const [first] = rows;
    const channel = rows.every((row) => row.channel === first!.channel)
      ? first!.channel
      : undefined;
    const about = aboutOperation("receive", channel, run.consumer);
    this.#sink.record("messaging.client.operation.duration", took / 1000, about);
  }

  async settle<T>(run: ObservedRun, _count: number, store: () => Promise<T>): Promise<T> {
    return await this.#timed("acknowledge", undefined, run.consumer, store);
  }

  internal<T>(_name: Internal, _db: Queryable, _about: About, work: () => Promise<T>): Promise<T> {
    return work();
  }

  count(metric: string, value: number, about: About): void {
    if (isCounter(metric)) this.#sink.add(metric, value, about);
  }

  async #timed<T>(
    name: string,
    channel: string | undefined,
    consumer: string | undefined,
    work: () => Promise<T>,
    done?: (result: T, about: About) => void,
  ): Promise<T> {
    const begun = performance.now();
    let error: string | undefined;
    try {
      const result = await work();
      done?.(result, aboutOperation(name, channel, consumer));
      return result;
    } catch (reason) {
      error = errorType(reason);
      throw reason;
    } finally {
      this.#sink.record(
        "messaging.client.operation.duration",
        (performance.now() - begun) / 1000,
        aboutOperation(name, channel, consumer, error),
      );
    }
  }
}

function duplicates(sent: readonly Sent[]): number {
  return sent.reduce((sum, { isDuplicate }) => isDuplicate ? sum + 1 : sum, 0);
}

/** A call of a handler, measured. */
class MeasuredCall implements ObservedCall {
  readonly #sink: Sink;
  readonly #channel: string | undefined;
  readonly #consumer: string;
  readonly #begun = performance.now();

  constructor(sink: Sink, { run, notifications }: Handling) {
    this.#sink = sink;
    this.#consumer = run.consumer;
    const [first] = notifications;
    this.#channel = notifications.every(({ channel }) => channel === first!.channel)
      ? first!.channel
      : undefined;
    this.#begin(notifications);
  }

  #begin(notifications: readonly ObservedNotification[]): void {
    const now = Date.now();
    const consumer = this.#consumer;
    const again = notifications.filter(({ attempt }) => attempt > 1).length;
    if (again > 0) this.#sink.add("hark.consumer.redelivered", again, ofConsumer(consumer));
    for (const { channel, isReplay, attempt, createdAt } of notifications) {
      const about = aboutOperation("process", channel, consumer);
      this.#sink.add("messaging.client.consumed.messages", 1, about);
      if (isReplay || attempt > 1) continue;
      // The server's clock may be ahead of this one's.
      const latency = Math.max(0, now - createdAt.getTime());
      this.#sink.record("hark.delivery.latency", latency / 1000, about);
    }
  }

  run<T>(call: () => T): T {
    return call();
  }

  outcome(_notification: ObservedNotification, _outcome: Outcome): void {}

  ended(errors: readonly ({ readonly error: unknown } | undefined)[]): void {
    const error = errors.find((one) => one !== undefined);
    const about = aboutOperation(
      "process",
      this.#channel,
      this.#consumer,
      error && errorType(error.error),
    );
    const took = performance.now() - this.#begun;
    this.#sink.record("messaging.process.duration", took / 1000, about);
  }
}
