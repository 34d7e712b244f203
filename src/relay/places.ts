/**
 * What earlier workers of a relay have published and Hark has not stored as handled. After a crash that is
 * in doubt, so the worker that takes over looks for it in the target.
 *
 * @module
 */

import type { Entry } from "../consume/state/entry.ts";
import type { OwnedPartition } from "../consume/state/partition.ts";
import type { Queryable } from "../database/queryable.ts";
import { messageOf } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";
import { Looks } from "./looks.ts";
import { Outgoing } from "./outgoing.ts";
import { PlaceStore } from "./place_store.ts";
import type { OpenSink } from "./sink.ts";

const logger = getLogger(["hark", "relay"]);

/** How often it is looked whether places can be stored, in milliseconds. */
const tick = 500;
/** How long a place that has moved a little may stay unstored, in milliseconds. */
const every = 5_000;
/** By how much a place moves at the most until it is stored: a takeover has that much to look through. */
const far = 1_000;
/** How often it is asked what is stored of messages that hold a place, in milliseconds. */
const asking = 2_000;
/** After how long without news the end of the target is asked for, in milliseconds. */
const quiet = 30_000;
/**
 * How long a worker that was replaced may go on publishing, in milliseconds, and how long a look counts
 * until that time is over. The duplicate window of a stream is twice as long.
 */
export const grace = 5_000;

/** A partition that this process serves. */
interface Served {
  readonly outgoing: Outgoing;
  /** From when on certainly no other worker publishes for it, by `performance.now()`. */
  readonly aloneFrom: number;
  /** Whether a look was begun after that. */
  isAlone: boolean;
  /** When the last look began, by `performance.now()`, and up to which place it went. */
  lookedAt: number;
  end: number;
  /** How often messages came into doubt, and how often they had when the last look began. */
  doubts: number;
  cleared: number;
  /** The look that is under way. */
  looking: Promise<void> | undefined;
  stored: number;
  storedAt: number;
  askedAt: number;
}

/** The places of a relay in its target, one for each partition that this process serves. */
export class Places implements AsyncDisposable {
  readonly #store: PlaceStore;
  readonly #sink: OpenSink;
  readonly #lease: number;
  readonly #looks: Looks;
  readonly #known = new Map<OwnedPartition, Served>();
  readonly #beginning = new Map<OwnedPartition, Promise<void>>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #tending: Promise<void> | undefined;
  #end = { place: -1, at: 0 };

  /** @param lease How long a worker counts as alive without a heartbeat, in milliseconds. */
  constructor(db: Queryable, relay: string, sink: OpenSink, lease: number) {
    this.#store = new PlaceStore(db, relay, sink);
    this.#sink = sink;
    this.#lease = lease;
    this.#looks = new Looks(sink, this.#store);
  }

  /**
   * Refuses to begin beside a relay of the same name that publishes elsewhere.
   *
   * @throws {HarkError} `CONFLICT`.
   */
  async check(): Promise<void> {
    await this.#store.ask(null);
  }

  /** The UUID of the install. Known once {@linkcode check} has returned. */
  get install(): string {
    return this.#store.install;
  }

  /**
   * Finds out for partitions what other workers have published, and for messages in doubt whether the target
   * has them.
   *
   * @throws {HarkError} `CONFLICT`, and the errors of the database and of the sink.
   */
  async serve(partitions: readonly OwnedPartition[]): Promise<void> {
    this.#timer ??= setInterval(() => this.#tend(), tick);
    await Promise.all(partitions.map((held) => this.#serve(held)));
  }

  async #serve(held: OwnedPartition): Promise<void> {
    if (!this.#known.has(held)) {
      let begun = this.#beginning.get(held);
      if (begun === undefined) {
        begun = this.#begin(held).finally(() => this.#beginning.delete(held));
        this.#beginning.set(held, begun);
      }
      await begun;
    }
    const served = this.#known.get(held)!;
    // A message may have come into doubt after the look under way had begun.
    while (isLookDue(served)) {
      await (served.looking ??= this.#lookAgain(held, served).finally(() => {
        served.looking = undefined;
      }));
    }
  }

  async #begin(held: OwnedPartition): Promise<void> {
    const known = await this.#looks.announced(this.#store.ask(held.number));
    const look = await this.#looks.behind(known);
    const { begunAt, end } = look;
    const outgoing = new Outgoing();
    for (const id of await look.unhandled(held.number)) outgoing.add(id, known);
    // If this claim is over, a later one of the partition may have shared the look, and be known by now.
    held.signal.throwIfAborted();
    // An earlier claim of the same partition is over.
    for (const other of this.#known.keys()) {
      if (other.number === held.number) this.#known.delete(other);
    }
    this.#known.set(held, {
      outgoing,
      // The last owner has not given it back: it may not know yet that it is replaced.
      aloneFrom: begunAt + (held.crashes > 0 ? Math.max(grace, this.#lease) : grace),
      isAlone: false,
      lookedAt: begunAt,
      end,
      doubts: 0,
      cleared: 0,
      looking: undefined,
      stored: known,
      storedAt: begunAt,
      askedAt: begunAt,
    });
  }

  /**
   * Whether the target has to be looked at before anything of a partition is published. Another worker may
   * have published what the last look has not seen: the target drops that as a repeat for a time only.
   */
  needsLook(held: OwnedPartition): boolean {
    const served = this.#known.get(held);
    return served === undefined || isLookDue(served);
  }

  async #lookAgain(held: OwnedPartition, served: Served): Promise<void> {
    const { outgoing, doubts, isAlone, aloneFrom } = served;
    const from = Math.min(outgoing.base, isAlone ? Infinity : served.end);
    if (from < Infinity) {
      const look = await this.#looks.behind(from);
      outgoing.looked((id) => look.has(id));
      if (!isAlone) {
        for (const id of await look.unhandled(held.number)) outgoing.add(id, from);
        served.isAlone = look.begunAt >= aloneFrom;
        served.lookedAt = look.begunAt;
        served.end = Math.max(served.end, look.end);
      }
    }
    served.cleared = doubts;
  }

  /** Whether a look has found a message in the target. */
  isThere(held: OwnedPartition, id: number): boolean {
    return this.#known.get(held)?.outgoing.isThere(id) === true;
  }

  /** Notes that notifications are about to be published. Then call `end`. */
  begin(held: OwnedPartition, entries: readonly Entry[]): void {
    this.#known.get(held)!.outgoing.begin(entries, this.#sink.end);
  }

  /** Nothing of a batch is under way any more. Those of `unsent` were certainly not published. */
  end(held: OwnedPartition, entries: readonly Entry[], unsent: ReadonlySet<Entry>): void {
    this.#known.get(held)?.outgoing.end(entries, unsent);
  }

  /** Messages of partitions may be in the target: they are looked for before the next is published. */
  doubt(partitions: readonly OwnedPartition[]): void {
    for (const held of partitions) {
      const served = this.#known.get(held);
      if (served !== undefined) served.doubts++;
    }
  }

  /** Stores how far all is settled, if it is time. Never two at once. */
  #tend(): void {
    this.#tending ??= this.#tendAll().catch((error) => {
      logger.warn("{relay}: could not store how far its target is: {reason}", {
        relay: this.#store.relay,
        reason: messageOf(error),
      });
      // Without a place the next worker has more to look through, and nothing else follows.
      for (const served of this.#known.values()) served.storedAt = performance.now();
    }).finally(() => {
      this.#tending = undefined;
    });
  }

  async #tendAll(): Promise<void> {
    const now = performance.now();
    const moved: { number: number; epoch: number; served: Served; place: number }[] = [];
    let isTime = false;
    for (const [held, served] of this.#known) await this.#askOf(held, served, now);
    for (const [held, served] of this.#known) {
      if (held.signal.aborted) continue; // it may be another worker's by now
      // Also if nothing is to be published: until then the place stays. A batch hears of errors.
      if (isLookDue(served)) void this.#serve(held).catch(() => {});
      const { outgoing, isAlone, end, stored, storedAt } = served;
      const place = outgoing.settled(held, isAlone ? this.#sink.end : end);
      if (place === undefined || place <= stored) continue;
      const { number, epoch } = held;
      moved.push({ number, epoch, served, place });
      isTime ||= place - stored >= far || now - storedAt >= every;
    }
    if (isTime) {
      await this.#store.keep(moved);
      for (const { served, place } of moved) {
        Object.assign(served, { stored: place, storedAt: now });
      }
    }
    await this.#askForEnd(now);
  }

  /** Messages that were found, or whose entries were dropped, may be stored as handled by now. */
  async #askOf({ number }: OwnedPartition, served: Served, now: number): Promise<void> {
    if (now - served.askedAt < asking) return;
    served.askedAt = now;
    const { stuck } = served.outgoing;
    if (stuck.length === 0) return;
    const unhandled = new Set((await this.#store.unhandled(stuck)).get(number));
    for (const id of stuck) if (!unhandled.has(id)) served.outgoing.forget(id);
  }

  /** A process that publishes nothing does not hear how far the target is, and its places would stay. */
  async #askForEnd(now: number): Promise<void> {
    const { end } = this.#sink;
    if (end !== this.#end.place) this.#end = { place: end, at: now };
    if (now - this.#end.at < quiet) return;
    this.#end.at = now;
    await this.#sink.publishedBehind(Number.MAX_SAFE_INTEGER).catch(() => {}); // a look, if need be, tells
  }

  /** Ends the storing of places. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#tending;
  }
}

function isLookDue({ doubts, cleared, isAlone, lookedAt, aloneFrom }: Served): boolean {
  const now = performance.now();
  return doubts > cleared || !isAlone && (now >= lookedAt + grace || now >= aloneFrom);
}
