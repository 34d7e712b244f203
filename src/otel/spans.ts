/**
 * Makes a span of each thing that Hark does.
 *
 * @module
 */

import { context, type Span, SpanKind, trace } from "@opentelemetry/api";
import config from "../../deno.json" with { type: "json" };
import type { Queryable } from "../database/queryable.ts";
import type { ObservedRun } from "../observe/run.ts";
import type {
  About,
  Carried,
  Handling,
  Internal,
  ObservedCall,
  Observer,
  Publishing,
  Received,
  Sent,
} from "../observe/seam.ts";
import { databaseOf, scope } from "./attributes.ts";
import { HandlerSpan } from "./handler_span.ts";
import type { Settings } from "./options.ts";
import { failed, ofRun } from "./span_parts.ts";
import { creationOf, headersOf, linksTo } from "./trace.ts";

/** How many headers of a page are looked at for links. */
const lookedAt = 1000;

/** The spans. */
export class Spans implements Observer {
  readonly #tracer = trace.getTracer(scope, config.version);
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  carry(): Carried {
    return headersOf(context.active());
  }

  async publish(
    { db, channel, key, batch }: Publishing,
    send: (carried: Carried) => Promise<readonly Sent[]>,
  ): Promise<readonly Sent[]> {
    const span = this.#tracer.startSpan(
      batch === undefined && channel !== undefined ? `send ${channel}` : "send",
      {
        kind: batch === undefined ? SpanKind.PRODUCER : SpanKind.CLIENT,
        attributes: {
          ...databaseOf(db),
          "messaging.operation.name": "send",
          "messaging.operation.type": "send",
          ...(channel === undefined ? {} : { "messaging.destination.name": channel }),
          ...(batch === undefined ? {} : { "messaging.batch.message_count": batch }),
          ...(this.#settings.keys && key != null ? { "hark.key": String(key) } : {}),
        },
      },
    );
    const within = trace.setSpan(context.active(), span);
    return await this.#ended(span, async () => {
      const sent = await context.with(within, () => send(headersOf(within)));
      const [first] = sent;
      if (batch === undefined && first !== undefined) {
        // The number of a delayed notification is not its id.
        if (!first.isDelayed) span.setAttribute("messaging.message.id", String(first.id));
        if (first.isDuplicate) span.setAttribute("hark.duplicate", true);
        if (first.isDelayed) span.setAttribute("hark.delayed", true);
      }
      return sent;
    });
  }

  handle(what: Handling): ObservedCall {
    return new HandlerSpan(this.#tracer, this.#settings, what);
  }

  received({ run, rows, took }: Received): void {
    const now = Date.now();
    const channels = new Set(rows.map(({ channel }) => channel));
    const [channel] = channels;
    const span = this.#tracer.startSpan("receive", {
      kind: SpanKind.CLIENT,
      root: true,
      startTime: now - took,
      attributes: {
        ...ofRun(run),
        "messaging.operation.name": "receive",
        "messaging.operation.type": "receive",
        "messaging.batch.message_count": rows.length,
        ...(channels.size === 1 ? { "messaging.destination.name": channel! } : {}),
      },
      links: linksTo(creations(rows)),
    });
    span.end(now);
  }

  async settle<T>(run: ObservedRun, count: number, store: () => Promise<T>): Promise<T> {
    if (!this.#settings.settle) return await store();
    const span = this.#tracer.startSpan("settle", {
      kind: SpanKind.CLIENT,
      root: true,
      attributes: {
        ...ofRun(run),
        "messaging.operation.name": "acknowledge",
        "messaging.operation.type": "settle",
        "messaging.batch.message_count": count,
      },
    });
    return await this.#ended(span, store);
  }

  async internal<T>(
    name: Internal,
    db: Queryable,
    about: About,
    work: () => Promise<T>,
  ): Promise<T> {
    const span = this.#tracer.startSpan(name, {
      kind: SpanKind.INTERNAL,
      attributes: { ...databaseOf(db), ...about },
    });
    return await context.with(
      trace.setSpan(context.active(), span),
      () => this.#ended(span, work),
    );
  }

  count(): void {}

  async #ended<T>(span: Span, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      failed(span, error, this.#settings);
      throw error;
    } finally {
      span.end();
    }
  }
}

function* creations(rows: Received["rows"]) {
  for (const { headers } of rows.slice(0, lookedAt)) {
    if (headers?.includes('"traceparent"')) yield creationOf(JSON.parse(headers));
  }
}
