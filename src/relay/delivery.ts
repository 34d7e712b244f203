/**
 * The way of notifications from the log into a sink: the keys in order, each once.
 *
 * @module
 */

import { orAborted } from "../aborted.ts";
import type { HandlerContext } from "../consume/handler.ts";
import type { Notification } from "../consume/notification.ts";
import type { OwnedPartition } from "../consume/state/partition.ts";
import { type Work, workOf } from "../consume/state/work.ts";
import type { Entry } from "../consume/state/entry.ts";
import { messageOf } from "../database/translate.ts";
import { messageId } from "./message.ts";
import type { Places } from "./places.ts";
import { isAway } from "./is_away.ts";
import { Busy, Lost, type OpenSink, type Receipt, type RelayMessage } from "./sink.ts";

/** The first and the longest wait if the target cannot store messages, in milliseconds. */
const busyWaits = [50, 2_000] as const;

/** What happened to a notification. */
export interface Published {
  readonly notification: Notification;
  readonly receipt: Receipt;
}

/** A notification of a batch. */
interface Item {
  readonly notification: Notification;
  readonly entry: Entry;
  readonly held: OwnedPartition;
}

/** What a delivery needs. */
export interface DeliveryParts {
  readonly sink: OpenSink;
  readonly places: Places;
  /** Called after each message that was stored. */
  readonly published: (published: Published) => void;
  /** Called with trouble that passes by itself, and with undefined when it is over. */
  readonly trouble: (reason: string | undefined) => void;
  /** Ends the relay: an error that does not pass. */
  readonly fatal: (error: unknown) => void;
}

/** Publishes batches. The handler of a relay's consumer. */
export class Delivery {
  readonly #parts: DeliveryParts;

  constructor(parts: DeliveryParts) {
    this.#parts = parts;
  }

  /** See the option `handleBatch` of a consumer. */
  readonly handle = async (
    notifications: readonly Notification[],
    context: HandlerContext,
  ): Promise<void> => {
    const { places } = this.#parts;
    const work = workOf(context)!;
    const holders = new Map(work.held.map((held) => [held.number, held]));
    const heldOf = work.entries.map(({ partition }) => holders.get(partition)!);
    await this.#serve(work, context.signal);
    const batches = work.held.map((held) => ({
      held,
      entries: work.entries.filter((_, i) => heldOf[i] === held),
    }));
    for (const { held, entries } of batches) places.begin(held, entries);
    const lanes = new Map<string, Item[]>();
    let alone = 0;
    for (const [i, notification] of [...notifications].entries()) {
      const entry = work.entries[i]!;
      const lane = entry.lane ?? `${alone++} alone`;
      const one = { notification, entry, held: heldOf[i]! };
      const known = lanes.get(lane);
      if (known === undefined) lanes.set(lane, [one]);
      else known.push(one);
    }
    const unsent = new Set<Entry>();
    // To wait for all, also if one throws: what is under way belongs to this batch.
    const ended = await Promise.allSettled(
      [...lanes.values()].map((lane) => this.#publishAll(lane, work, context, unsent)),
    );
    const interrupted = ended.find((one) => one.status === "rejected");
    for (const { held, entries } of batches) {
      places.end(held, entries, interrupted === undefined ? unsent : new Set());
    }
    if (interrupted === undefined) return;
    // What was under way is looked for before it is published again.
    places.doubt(work.held);
    throw interrupted.reason;
  };

  /** Publishes one notification to a target that is isolated. See the option `handle` of a consumer. */
  readonly handleOne = async (
    notification: Notification,
    { signal }: HandlerContext,
  ): Promise<void> => {
    const { sink, places: { install }, published } = this.#parts;
    const id = messageId(install, notification.id);
    const receipt = await sink.publish({ id, install, notification }, signal);
    published({ notification, receipt });
  };

  /** Learns what earlier workers have published, for partitions that are new. */
  async #serve(work: Work, signal: AbortSignal): Promise<void> {
    for (let attempt = 0;; attempt++) {
      signal.throwIfAborted();
      try {
        await orAborted(this.#parts.places.serve(work.held), signal);
        if (attempt > 0) this.#parts.trouble(undefined);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof Lost) {
          await orAborted(this.#recovered(error, signal), signal);
        } else if (error instanceof Busy || isAway(error)) {
          this.#parts.trouble(messageOf(error));
          await pause(waitOf(attempt), signal);
        } else {
          this.#parts.fatal(error);
          await forEver(signal);
        }
      }
    }
  }

  /** Publishes the notifications of a key, one after the other. Those that it has not published are `unsent`. */
  async #publishAll(
    lane: readonly Item[],
    work: Work,
    context: HandlerContext,
    unsent: Set<Entry>,
  ): Promise<void> {
    for (const [i, item] of lane.entries()) {
      const { notification } = item;
      try {
        const receipt = await this.#publish(item, work, context.signal);
        if (receipt !== undefined) this.#parts.published({ notification, receipt });
      } catch (error) {
        context.signal.throwIfAborted();
        context.fail(notification, error);
        // The rest of the key comes again, behind this one.
        for (const { entry } of lane.slice(i)) unsent.add(entry);
        return;
      }
    }
  }

  /** Publishes, for as long as it takes. Gives no receipt if only a look at the target told. */
  async #publish(
    { notification, held }: Item,
    work: Work,
    signal: AbortSignal,
  ): Promise<Receipt | undefined> {
    const { sink, trouble, places } = this.#parts;
    const { install } = places;
    const message: RelayMessage = {
      id: messageId(install, notification.id),
      install,
      notification,
    };
    for (let attempt = 0;; attempt++) {
      await this.#certain(held, work, signal);
      if (places.isThere(held, notification.id)) return undefined;
      try {
        const receipt = await sink.publish(message, signal);
        if (attempt > 0) trouble(undefined);
        return receipt;
      } catch (error) {
        if (error instanceof Lost) {
          const there = await orAborted(this.#recovered(error, signal), signal);
          if (there.has(message.id)) return void trouble(undefined);
        } else if (error instanceof Busy) {
          trouble(error.message);
          await pause(waitOf(attempt), signal);
        } else {
          throw error;
        }
      }
    }
  }

  /**
   * Waits until this worker certainly serves its partitions, and knows what the target has of them. A process
   * that was frozen may be replaced, and what it would publish then has been published by another.
   */
  async #certain(held: OwnedPartition, work: Work, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      if (!work.certain(performance.now())) await pause(20, signal);
      else if (this.#parts.places.needsLook(held)) await this.#serve(work, signal);
      else return;
    }
  }

  async #recovered(error: Lost, signal: AbortSignal): Promise<ReadonlySet<string>> {
    try {
      return await this.#parts.sink.recover(error);
    } catch (reason) {
      signal.throwIfAborted();
      this.#parts.fatal(reason);
      return await forEver(signal);
    }
  }
}

function waitOf(attempt: number): number {
  return Math.min(busyWaits[0] * 2 ** attempt, busyWaits[1]);
}

/** Waits, or rejects when the signal aborts. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  try {
    await orAborted(promise, signal);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits until the signal aborts: the relay is about to end. */
async function forEver(signal: AbortSignal): Promise<never> {
  return await orAborted(new Promise<never>(() => {}), signal);
}
