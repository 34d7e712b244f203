/**
 * The span of one call of a handler.
 *
 * @module
 */

import {
  type Attributes,
  type Context,
  context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  trace,
  type Tracer,
} from "@opentelemetry/api";
import type { Handling, ObservedCall, ObservedNotification, Outcome } from "../observe/seam.ts";
import type { Settings } from "./options.ts";
import { failed, ofRun } from "./span_parts.ts";
import { creationOf, linksTo } from "./trace.ts";

/** A call of a handler. The span is active while the handler runs, so its own spans are children. */
export class HandlerSpan implements ObservedCall {
  readonly #span: Span;
  readonly #within: Context;
  readonly #settings: Settings;
  /** What became of those that were not simply handled. */
  #outcomes: Map<ObservedNotification, Outcome> | undefined;

  constructor(tracer: Tracer, settings: Settings, what: Handling) {
    this.#settings = settings;
    const { run, partition, notifications, isBatch } = what;
    const first = notifications[0]!;
    const created = notifications.map(({ headers }) => creationOf(headers));
    const [parent] = created;
    const isChild = settings.parent === "message" && !isBatch && parent !== undefined;
    const from = isChild ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT;
    // Most calls are of one notification, so one object is filled, rather than several spread.
    const attributes: Attributes = {
      ...ofRun(run),
      "messaging.operation.name": "process",
      "messaging.operation.type": "process",
    };
    const isOfOne = notifications.every(({ channel }) => channel === first.channel);
    if (isOfOne) attributes["messaging.destination.name"] = first.channel;
    if (partition !== undefined) {
      attributes["messaging.destination.partition.id"] = String(partition);
    }
    if (isBatch) attributes["messaging.batch.message_count"] = notifications.length;
    else {
      attributes["messaging.message.id"] = String(first.id);
      attributes["hark.attempt"] = first.attempt;
      if (settings.keys && first.key !== null) attributes["hark.key"] = first.key;
    }
    attributes["hark.replay"] = notifications.every(({ isReplay }) => isReplay);
    this.#span = tracer.startSpan(isOfOne ? `process ${first.channel}` : "process", {
      kind: SpanKind.CONSUMER,
      // A child needs no link to its parent.
      links: isChild ? [] : linksTo(created),
      attributes,
    }, from);
    this.#within = trace.setSpan(from, this.#span);
  }

  run<T>(call: () => T): T {
    return context.with(this.#within, call);
  }

  outcome(notification: ObservedNotification, outcome: Outcome): void {
    this.#outcomes ??= new Map();
    this.#outcomes.set(notification, outcome);
  }

  ended(errors: readonly ({ readonly error: unknown } | undefined)[]): void {
    // The worst that became of one of them.
    const told = new Set(this.#outcomes?.values());
    const outcome = worst.find((one) => told.has(one)) ?? "handled";
    this.#span.setAttribute("hark.outcome", outcome);
    const error = errors.find((one) => one !== undefined);
    if (error !== undefined) failed(this.#span, error.error, this.#settings);
    this.#span.end();
  }
}

const worst: readonly Outcome[] = [
  "dead_letter",
  "retry",
  "unsure",
  "newer",
  "interrupted",
  "discarded",
  "behind",
];
