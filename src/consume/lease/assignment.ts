/**
 * Which partitions a worker serves: its fair share, including partitions of workers that have gone.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import type { Queryable } from "../../database/queryable.ts";
import { count, ofConsumer } from "../../observe/seam.ts";
import { shellWord } from "../../visible.ts";
import type { Claimed } from "../state/identity.ts";
import type { State } from "../state/state.ts";
import { Gone } from "./gone.ts";
import { LeaseWait } from "./lease_wait.ts";
import type { Heartbeat } from "./heartbeat.ts";
import type { Membership } from "./membership.ts";
import { nextBeat } from "./next_beat.ts";
import { StandIn } from "./stand_in.ts";
import { Standing } from "./standing.ts";
import { takenOver } from "./taken_over.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * How long a run counts as just started, in milliseconds; at least two leases. In a deployment the
 * old worker may stop after the new one has started. If it was killed, its lease has to end first.
 */
const starting = 60_000;

/** What a worker does for its partitions: see Service. */
export interface Serves {
  /**
   * Begins to serve partitions that were claimed.
   *
   * @param restarted Whether this run has just started, and no other worker is alive.
   */
  adopt(session: Queryable, claimed: readonly Claimed[], restarted: boolean): Promise<void>;
  /** Looks for rows that others have put into hark.waiting. */
  reload(session: Queryable): Promise<void>;
}

/** Keeps a worker's lease and its share of the partitions. */
export class Assignment {
  readonly #state: State;
  readonly #membership: Membership;
  readonly #duty: Serves;
  readonly #gone = new Gone();
  #hurried = false;
  #told = false;
  #changes: number | undefined;
  readonly #begunAt = performance.now();
  readonly #standing: Standing;
  readonly #standIn: StandIn;
  readonly #leaseWait: LeaseWait | undefined;
  /** When the next heartbeat is due. */
  due = -Infinity;
  last: Heartbeat | undefined;

  constructor(
    state: State,
    member: Membership,
    duty: Serves,
    register: (session: Queryable) => Promise<void>,
  ) {
    this.#state = state;
    this.#membership = member;
    const { identity } = state.options;
    this.#standing = new Standing(identity.consumer, state.run.drain);
    this.#standIn = new StandIn(identity.lease, register);
    // A drain waits only if something is left to handle: see Drain.
    this.#leaseWait = state.run.drain ? undefined : new LeaseWait(identity, false);
    this.#duty = duty;
  }

  get #consumer(): string {
    return this.#state.options.identity.consumer;
  }

  /** Whether, at a given time, certainly no other worker has taken over. */
  certain(now: number): boolean {
    return this.#membership.certain(now);
  }

  /** Makes a heartbeat due at once, even if one is running now. */
  hurry(): void {
    this.#hurried = true;
    this.due = -Infinity;
  }

  /** Sends a heartbeat, renews the lease when it is time, and takes or gives back partitions. */
  async heartbeat(session: Queryable, wanting: boolean): Promise<void> {
    const { options } = this.#state;
    const { lease } = options.identity;
    const sent = performance.now();
    this.#hurried = false;
    const heartbeat = await this.#membership.heartbeat(session);
    const took = performance.now() - sent;
    this.last = heartbeat;
    this.#state.partitionCount = heartbeat.partitions;
    const alone = heartbeat.outcome === "serve" && heartbeat.workers === 1 &&
      heartbeat.mine.size === heartbeat.partitions && !heartbeat.replays;
    this.due = this.#hurried ? -Infinity : nextBeat(sent, alone, lease, options.pollInterval);
    this.#standing.tell(heartbeat);
    for (const held of [...this.#state.partitions.values()]) {
      if (heartbeat.mine.get(held.number) !== held.epoch) {
        const handled = held.handled;
        const unstored = handled === 0
          ? ""
          : `; ${handled} notification${handled === 1 ? "" : "s"} that ${
            handled === 1 ? "was" : "were"
          } handled but not stored may be handled again`;
        logger.warn(
          "{consumer}: partition {partition} was taken over by another worker, or moved by a seek{unstored}",
          { consumer: this.#consumer, partition: held.number, count: handled, unstored },
        );
        this.#state.forget(held, takenOver(this.#consumer, held.number));
        count("hark.fenced", 1, ofConsumer(this.#consumer));
      }
    }
    if (heartbeat.outcome === "outdated") return await this.#standIn.tend(session, heartbeat);
    this.#standIn.over();
    if (options.partitionsGiven && options.partitions !== heartbeat.partitions && !this.#told) {
      this.#told = true;
      logger.warn(
        "{consumer} has {what}, so the option partitions ({given}) has no effect; to change the number: {command}",
        {
          consumer: this.#consumer,
          count: heartbeat.partitions,
          what: `${heartbeat.partitions} partition${heartbeat.partitions === 1 ? "" : "s"}`,
          given: options.partitions,
          command: `hark consumers partitions ${shellWord(this.#consumer)} ${options.partitions}`,
        },
      );
    }
    await this.#reload(session, heartbeat);
    await this.#reclaim(session, heartbeat, wanting);
    if (await this.#yieldToNewer(session, heartbeat)) return this.hurry();
    if (heartbeat.releasing) this.#giveBack(0);
    else if (this.#serving > heartbeat.share) this.#giveBack(heartbeat.share);
    else if (wanting) await this.#claimMore(session, heartbeat, took);
    if (heartbeat.replays) await this.#moveReplays(session);
    if (wanting && this.#serving === 0) await this.#leaseWait?.tell(session);
    else this.#leaseWait?.over();
  }

  /** Gives way to a worker that stands by, and may be of the newer program that notifications need. */
  async #yieldToNewer(session: Queryable, heartbeat: Heartbeat): Promise<boolean> {
    const { leftToNewer, run } = this.#state;
    const hasStandby = heartbeat.workers > heartbeat.partitions && this.#serving > 0;
    if (!leftToNewer || run.drain || !hasStandby || heartbeat.share < this.#serving) return false;
    if (!await this.#membership.yieldToNewer(session)) return false;
    logger.info(
      "{consumer}: notifications wait for a newer program; this worker gives its partitions to a worker that joined later",
      { consumer: this.#consumer },
    );
    return true;
  }

  /** How many partitions this worker serves and means to keep. */
  get #serving(): number {
    let count = 0;
    for (const held of this.#state.partitions.values()) if (held.halted !== "release") count++;
    return count;
  }

  /**
   * Claims again the partitions left from an earlier claim of this worker, such as a claim whose
   * answer was lost, or the one with which a drain has entered. In the same call, those that it wants.
   */
  async #reclaim(session: Queryable, heartbeat: Heartbeat, wanting: boolean): Promise<void> {
    const { mine, releasing, free, share } = heartbeat;
    const left = [...mine.keys()].filter((number) => !this.#state.partitions.has(number));
    if (left.length === 0) return;
    const room = wanting ? Math.max(0, share - this.#serving - left.length) : 0;
    const more = spread(free, this.#state.options.random).slice(0, room);
    if (!releasing) return await this.claim(session, [...left, ...more], false);
    // No partition may be claimed until all are given back.
    const held = left.map((number) => ({ number, epoch: mine.get(number)! }));
    await this.#membership.release(session, held);
  }

  #giveBack(share: number): void {
    const surplus = [...this.#state.partitions.values()]
      .filter((held) => held.halted !== "release")
      .sort((a, b) => b.number - a.number)
      .slice(0, this.#serving - share);
    for (const held of surplus) this.#state.halt(held, "release");
  }

  async #claimMore(
    session: Queryable,
    { share, free, gone }: Heartbeat,
    took: number,
  ): Promise<void> {
    const left = this.#gone.note(gone, took, performance.now());
    const room = () => share - this.#serving;
    if (room() > 0 && free.length > 0) {
      await this.claim(session, spread(free, this.#state.options.random).slice(0, room()), false);
    }
    if (room() > 0 && left.length > 0) {
      await this.claim(session, left.slice(0, room()), true);
    } else {
      this.due = Math.min(this.due, this.#gone.due);
    }
  }

  /** Claims partitions and begins to serve those that this worker gets. */
  async claim(
    session: Queryable,
    numbers: readonly number[],
    presumeGone: boolean,
  ): Promise<void> {
    const claimed = await this.#membership.claim(session, numbers, presumeGone);
    await this.#duty.adopt(session, claimed, this.#hasJustStarted(this.last));
  }

  /** Whether this run has just started, and no other worker is alive. */
  #hasJustStarted(heartbeat: Heartbeat | undefined): boolean {
    const { lease } = this.#state.options.identity;
    return heartbeat?.workers === 1 &&
      performance.now() - this.#begunAt < Math.max(starting, 2 * lease);
  }

  /**
   * Called after a reconnect. Claims the worker's partitions again, so that nothing still in
   * transit on the old connection counts. All entries stay valid if no other worker owned their
   * partition since, and if the server did not crash.
   */
  async resume(session: Queryable): Promise<void> {
    const { partitions } = this.#state;
    this.due = -Infinity;
    const { identity } = this.#state.options;
    const heartbeat = await this.#membership.heartbeat(session);
    if (partitions.size === 0) return;
    // Rows may have been discarded while their storing was in doubt: look at all of them again.
    this.#changes = -1;
    const claimed = heartbeat.outcome === "outdated"
      ? []
      : await this.#membership.claim(session, [...partitions.keys()], false);
    const fresh: Claimed[] = [];
    for (const held of [...partitions.values()]) {
      const again = claimed.find((one) => one.partition === held.number);
      if (again !== undefined && held.isStillOwn(again, heartbeat.mine.get(held.number))) {
        held.regain(again.epoch);
        continue;
      }
      const lost = [...held.entries()].filter(({ phase, stored }) =>
        phase === "settled" && !stored
      ).length;
      if (lost > 0) {
        logger.warn(
          "{consumer}: could not store that {count} notifications were handled; they will be handled again",
          {
            consumer: identity.consumer,
            count: lost,
          },
        );
      }
      this.#state.forget(held, takenOver(identity.consumer, held.number));
      if (again !== undefined) fresh.push(again);
    }
    await this.#duty.adopt(session, fresh, this.#hasJustStarted(heartbeat));
  }

  /** Looks for rows that others have put into hark.waiting. */
  async #reload(session: Queryable, { changes }: Heartbeat): Promise<void> {
    const changed = this.#changes !== undefined && this.#changes !== changes;
    if (changed) await this.#duty.reload(session);
    this.#changes = changes;
  }

  /** Moves some of the notifications to be replayed into hark.waiting, if few wait there. */
  async #moveReplays(session: Queryable): Promise<void> {
    const { partitions, options, entries: { rows: { waiting } } } = this.#state;
    if (partitions.size === 0 || waiting.size > options.maxWaiting / 4) return;
    const { rows: [row] } = await session.query("select hark.move_replays($1::text) as looked", [
      this.#consumer,
    ]);
    if (Number(row.looked) > 0) this.due = -Infinity;
  }
}

/**
 * Begins the list at a random place, so that workers that claim at the same time do not all want
 * the same partitions.
 */
function spread(numbers: readonly number[], random: () => number): number[] {
  const start = Math.floor(random() * numbers.length);
  return [...numbers.slice(start), ...numbers.slice(0, start)];
}
