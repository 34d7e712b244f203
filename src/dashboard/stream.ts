/**
 * The event stream of an open page: the regions that have changed since they were last sent.
 *
 * @module
 */

import { translate } from "../database/translate.ts";
import { visible } from "../visible.ts";
import type { Told } from "./lookout.ts";
import type { Region } from "./view.ts";

const encoder = new TextEncoder();

/** Writes an event. JSON has no line break, so that the data is one line. */
function event(name: string, data: unknown): Uint8Array {
  return encoder.encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}

type Seen = Extract<Told, { look: unknown }>;

/** What a stream needs. */
export interface StreamOptions {
  /** Makes the regions for a look. */
  readonly regions: (told: Seen) => Promise<readonly Region[]>;
  /** Calls a listener at each look until the signal aborts. */
  readonly listen: (listener: (told: Told) => void, signal: AbortSignal) => void;
  /** Ends it. */
  readonly signal: AbortSignal;
  /** When it ends at the latest, in ms. */
  readonly lifetime: number;
}

/**
 * Opens a stream. It ends when the browser closes it, and after its lifetime: the browser then connects
 * again, and has to be let in again.
 */
export function stream(
  { regions, listen, signal, lifetime }: StreamOptions,
): ReadableStream<Uint8Array> {
  const ended = new AbortController();
  const sent = new Map<string, string>();
  let busy = false;
  return new ReadableStream({
    start(controller) {
      const send = (name: string, data: unknown) => {
        if (!ended.signal.aborted) controller.enqueue(event(name, data));
      };
      const end = () => {
        if (ended.signal.aborted) return;
        ended.abort();
        // What a browser has not taken would keep it open.
        if ((controller.desiredSize ?? 0) > 0) controller.close();
        else controller.error(new Error("the browser takes nothing"));
      };
      const timer = setTimeout(end, lifetime);
      signal.addEventListener("abort", end, { once: true });
      ended.signal.addEventListener("abort", () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
      }, { once: true });
      // The browser connects again after this many ms.
      controller.enqueue(encoder.encode("retry: 2000\n\n"));
      listen((told) => {
        // A slow browser is told the next time.
        if ((controller.desiredSize ?? 1) < -8) return;
        if ("trouble" in told) return send("trouble", { text: visible(told.trouble.message) });
        // So is a slow query.
        if (busy) return;
        busy = true;
        tell(told, send).finally(() => busy = false);
      }, ended.signal);
    },
    cancel() {
      ended.abort();
    },
  });

  async function tell(told: Seen, send: (name: string, data: unknown) => void): Promise<void> {
    try {
      const changed = (await regions(told)).filter(({ id, body }) => sent.get(id) !== body.text);
      for (const { id, body } of changed) sent.set(id, body.text);
      send("look", {
        at: told.look.at.getTime(),
        regions: changed.map(({ id, body }) => [id, body.text]),
      });
    } catch (error) {
      send("trouble", { text: visible(translate(error).message) });
    }
  }
}
