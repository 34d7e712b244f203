/**
 * Live responses: server-sent events.
 *
 * @module
 */

import { messageOf } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";
import { count } from "../observe/seam.ts";
import type { Batch, Cursor } from "./cursor.ts";
import type { Media } from "./media.ts";
import { cursorAfter } from "./reply.ts";

const logger = getLogger(["hark", "streams"]);
const encoder = new TextEncoder();

/** What a live response needs. Durations are milliseconds. */
export interface EventsOptions {
  readonly cursor: Cursor;
  readonly media: Media;
  /** Whether it is for an `EventSource`: one event for each notification. Else as the protocol has it. */
  readonly plain: boolean;
  readonly heartbeat: number;
  readonly retry: number;
  /** The client's own last cursor. */
  readonly given: string | null;
  readonly lifetime: number;
  /** Ends the response. */
  readonly signal: AbortSignal;
  /** Called once, when it has ended. */
  readonly ended: () => void;
}

/**
 * How long one response lasts: up to a tenth less than the option says. Clients that have connected
 * together, such as after a restart of the server, would else come back together for ever.
 */
export function spread(lifetime: number, random: () => number = Math.random): number {
  return lifetime * (1 - random() / 10);
}

/**
 * Writes events as fast as the client takes them. What it has not taken waits in the log, not in
 * memory.
 */
export function events(options: EventsOptions): ReadableStream<Uint8Array> {
  const { cursor, media, plain, heartbeat, retry, lifetime, signal } = options;
  let lastCursor = options.given;
  let isOver = false;
  let cancelled = false;
  let greeted = false;
  const finish = () => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    signal.removeEventListener("abort", cut);
    options.ended();
  };
  let cut = () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  const until = performance.now() + lifetime;

  function control(position: string, upToDate: boolean): string {
    lastCursor = cursorAfter(lastCursor);
    const data = JSON.stringify({
      streamNextOffset: position,
      streamCursor: lastCursor,
      ...(upToDate ? { upToDate } : {}),
    });
    return `event: control\ndata:${data}\nid: ${position}\n\n`;
  }

  async function* written(batch: Batch): AsyncGenerator<Uint8Array> {
    if (batch.gap !== undefined && plain) {
      yield encoder.encode(`event: gap\ndata: ${JSON.stringify(batch.gap)}\n\n`);
    }
    const items = await media.chosen(batch.items);
    count("hark.stream.sent", items.length);
    if (plain) {
      for (const item of items) yield media.event(item);
      return;
    }
    const data = items.length === 0 ? "" : `event: data\n${media.data(items)}\n`;
    // Without messages the position is told by the next heartbeat.
    if (items.length > 0 || batch.upToDate && !greeted) {
      yield encoder.encode(data + control(batch.position, batch.upToDate));
      greeted = true;
    }
  }

  /** Nothing but where the client is. An `EventSource` keeps the id, and calls no listener. */
  function beat(): Uint8Array {
    return encoder.encode(
      plain ? `: \nid: ${cursor.position}\n\n` : control(cursor.position, cursor.upToDate),
    );
  }

  return new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(encoder.encode(`retry: ${retry}\n\n`));
      if (cursor.upToDate) {
        controller.enqueue(beat());
        greeted = true;
      }
      // One that takes nothing would hold what it was sent for ever.
      const drop = () => {
        if (isOver || (controller.desiredSize ?? 1) > 0) return;
        count("hark.stream.dropped", 1);
        controller.error(new Error("the client is too slow"));
        finish();
      };
      timer = setTimeout(drop, lifetime);
      cut = () => {
        drop();
        finish();
      };
      signal.addEventListener("abort", cut, { once: true });
    },
    async pull(controller) {
      try {
        const beatAt = performance.now() + heartbeat;
        // It is called again only if something was written.
        while (performance.now() < until) {
          let sent = false;
          const batch = await cursor.next(Math.min(until, beatAt));
          if (batch === undefined) return controller.enqueue(beat());
          // A client of the protocol begins again, and is told what it has missed.
          if (batch.gap !== undefined && !plain) break;
          for await (const bytes of written(batch)) {
            controller.enqueue(bytes);
            sent = true;
          }
          if (sent) return;
          // The client is given nothing of what comes, and still is to know where it is.
          if (performance.now() >= beatAt) return controller.enqueue(beat());
        }
      } catch (error) {
        if (!signal.aborted) {
          logger.warn("A stream has ended: {reason}", { reason: messageOf(error) });
        }
      }
      finish();
      // The client may have gone, or have been dropped.
      if (controller.desiredSize !== null && !cancelled) controller.close();
    },
    cancel() {
      cancelled = true;
      finish();
    },
  }, new ByteLengthQueuingStrategy({ highWaterMark: 64 * 1024 }));
}
