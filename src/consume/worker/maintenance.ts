/**
 * Maintenance that each worker does for all consumers while it runs: the worker delivers delayed
 * notifications, publishes what is scheduled, cuts marks, thins them, and creates segments of the log.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { pause } from "../../database/bell.ts";
import { isPassing, messageOf, translate, translated } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import { observed } from "../../observe/seam.ts";
import type { Heartbeat } from "../lease/heartbeat.ts";
import { cut } from "../read/cut.ts";
import { thinMarks } from "../read/thin_marks.ts";
import { extendLog } from "../read/extend_log.ts";
import type { State } from "../state/state.ts";
import { Schedules } from "./schedules.ts";

const logger = getLogger(["hark", "consumer"]);

/** How far apart marks are while anything is published, in milliseconds. */
const markInterval = 1000;
/** For how long a drain waits, before its mark, for a worker that publishes what is due, in ms. */
const patience = 1000;
/** What is due sooner than this, in ms, another worker may have in hand: see hark.deliver_due. */
const inOtherHands = 250;

/** The maintenance of one worker. */
export class Maintenance {
  readonly #state: State;
  /** When to look at delayed notifications next, by `performance.now()`. */
  #deliverAt = -Infinity;
  readonly #schedules = new Schedules();
  /** When to remove old notifications next. */
  #retainAt = Infinity;
  /** Whether this worker has published something that drains which began before do not see. */
  published = false;
  #extended = { at: performance.now(), handled: 0 };
  #thinned = { at: performance.now(), mark: -1, goesOn: false };

  constructor(state: State) {
    this.#state = state;
  }

  /** When there is something to do, by `performance.now()`. */
  get due(): number {
    return Math.min(this.#deliverAt, this.#schedules.due, this.#retainAt, this.#markAt);
  }

  /** Takes from a heartbeat what is due, and when. */
  plan({ nextDue, nextSchedule, retentionDue }: Heartbeat): void {
    const now = performance.now();
    this.#deliverAt = nextDue === null ? Infinity : now + nextDue;
    this.#schedules.plan(nextSchedule);
    if (retentionDue) this.#retainAt = Math.min(this.#retainAt, now);
  }

  /**
   * Publishes all that is due, before a drain cuts its mark. So the mark sees it, whichever of the
   * drains that begin at the same time has published it.
   */
  async publishAllDue(session: Queryable): Promise<void> {
    const { stopping } = this.#state.run;
    const schedules = this.#schedules;
    const ran = await untilNoneIsDue(schedules, () => schedules.publishDue(session), stopping);
    const delayed = { due: -Infinity };
    const moved = await untilNoneIsDue(delayed, async () => {
      this.#deliverAt = -Infinity;
      const some = await this.#deliverDue(session);
      delayed.due = this.#deliverAt;
      return some;
    }, stopping);
    // A drain that did not wait for these has its mark already.
    this.published = ran || moved;
  }

  /** Does what is due. While stopping, the worker removes nothing any more. */
  async tend(session: Queryable, stopping: boolean): Promise<void> {
    await this.#deliverDue(session);
    await this.#publishScheduled(session);
    if (!stopping) await this.#retain(session);
  }

  /**
   * Publishes the delayed notifications that are due. Any running worker does this for all
   * consumers.
   */
  async #deliverDue(session: Queryable): Promise<boolean> {
    if (this.#deliverAt > performance.now()) return false;
    const { rows: [row] } = await translated(() =>
      session.query("select moved, next_ms from hark.deliver_due()")
    );
    const wait = row.next_ms === null ? Infinity : Number(row.next_ms);
    const moved = Number(row.moved) > 0;
    if (moved) this.#note();
    // If notifications are due and none was moved, another worker is moving them.
    this.#deliverAt = performance.now() + Math.max(wait, moved ? 0 : 100);
    return moved;
  }

  #note(): void {
    this.published = true;
    // If this worker sleeps, the NOTIFY of what it published would wake it only a moment later.
    this.#state.run.bell.ring();
  }

  /** Publishes the schedules that are due. Any running worker does this for all consumers. */
  async #publishScheduled(session: Queryable): Promise<void> {
    if (await this.#schedules.publishDue(session)) this.#note();
  }

  /**
   * Removes old notifications as the settings of retention say, a batch at a time. Any running
   * worker does this for all consumers, one worker at a time.
   */
  async #retain(session: Queryable): Promise<void> {
    if (this.#retainAt > performance.now()) return;
    this.#retainAt = Infinity;
    try {
      const { rows: [row] } = await observed(
        "hark.cleanup",
        this.#state.run.observed.db,
        {},
        () => session.query("select removed, next_ms from hark.apply_retention()"),
      );
      // While there is more. Otherwise the heartbeat tells when it is due again.
      if (row.next_ms !== null && Number(row.next_ms) <= 2000) {
        this.#retainAt = performance.now() + Math.max(Number(row.next_ms), 50);
      }
      if (Number(row.removed) > 0) {
        logger.debug("Removed {count} old notifications", { count: Number(row.removed) });
      }
    } catch (error) {
      const reason = translate(error);
      if (isPassing(reason)) throw reason;
      logger.warn("Could not remove old notifications: {reason}", { reason: messageOf(reason) });
    }
  }

  /**
   * When to cut a mark, at which a reader can begin later. A reader at the end of the log learns from
   * its looks when one is wanted. While readers are far behind, a few of the workers cut them.
   */
  get #markAt(): number {
    const { cut: { at, byFew }, wantsCut, readers, options } = this.#state;
    if (wantsCut) return -Infinity;
    if (byFew || readers.some((reader) => reader.inWindow)) return at + markInterval;
    return at + Math.max(options.pollInterval, markInterval);
  }

  /** Cuts a mark if no reader of this worker has done so lately. Now and then thins the marks. */
  async mark(session: Queryable): Promise<void> {
    const now = performance.now();
    if (now >= this.#markAt) this.#state.noteCut(await cut(session));
    const { number } = this.#state.cut.mark ?? { number: -1 };
    const { at, mark, goesOn } = this.#thinned;
    if (goesOn ? now - at > 5000 : now - at > 60_000 && number !== mark) {
      this.#thinned = { at: now, mark: number, goesOn: await thinMarks(session) };
    }
    await this.#extend(session, now);
  }

  /** Creates segments of the log in advance, while this worker handles notifications. */
  async #extend(session: Queryable, now: number): Promise<void> {
    const { handled } = this.#state.entries;
    if (handled === this.#extended.handled) return;
    const since = now - this.#extended.at;
    if (since < 1000 || since < 10_000 && handled - this.#extended.handled < 10_000) return;
    this.#extended = { at: now, handled };
    await extendLog(session);
  }
}

/**
 * Repeats work until nothing is due. Waits a moment if another worker may have it in hand. Returns
 * whether there was work after it had waited.
 */
async function untilNoneIsDue(
  what: { due: number },
  work: () => Promise<boolean>,
  over: AbortSignal,
): Promise<boolean> {
  let [waited, late] = [false, false];
  for (const until = performance.now() + patience; !over.aborted;) {
    what.due = -Infinity;
    const worked = await work();
    late ||= worked && waited;
    const now = performance.now();
    if (what.due > now + (worked ? 0 : inOtherHands) || !worked && now > until) break;
    if (worked) continue;
    await pause(20, over);
    waited = true;
  }
  return late;
}
