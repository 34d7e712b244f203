/**
 * When a reader sleeps until it is notified, and when it rather looks all the time.
 *
 * @module
 */

import { Bell } from "../database/bell.ts";
import type { Listener } from "../database/listener.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";

/** How long it is woken without asking for it again, in milliseconds: so long a dead one costs publishers. */
const lasting = 120_000;
/** How often one that is awake looks, in milliseconds, and how often when nothing came for a while. */
const glance = 3;
const idleGlance = 10;
const awhile = 200;
/** How often one that falls asleep looks at first, in milliseconds. */
const firstLook = 5;
/**
 * It stays awake, so that publishers need not wake it, where the commits that NOTIFY has wait for each other would fill
 * this share of the time: from so many a second on, for a moment, but within these bounds.
 */
const busyShare = 0.4;
const leastBusyRate = 50;
const mostBusyRate = 200;
/** What a rate is taken over, and how many in a row have to be high, in milliseconds and times. */
const span = 200;
const spans = 2;
/**
 * One that stayed awake falls asleep again when for so long nothing came, or less than a share of that, and sleeps at
 * least so long before it stays awake again, in milliseconds. Each change is a write to what all publishers look at: 100,000 of them
 * under one open transaction make a look take a millisecond, so there may be some in ten seconds and not many in one.
 */
const drowsy = 3000;
const calmShare = 0.7;
const leastSleep = 400;

/** Where a reader stands. Times are by `performance.now()`. */
export interface Standing {
  /** Whether it reads at all, rather than being paused or having nothing to read. */
  readonly open: boolean;
  /** Whether it has no room for more. */
  readonly full: boolean;
  /** Whether it has read to an end of the log. */
  readonly drained: boolean;
  /** When it last read something. */
  readonly busyAt: number;
  /** How many it has read so far, where these are all that it would have been woken for. */
  readonly found: number | undefined;
  /** How long it took of late to have something committed, with the way there and back, in milliseconds. */
  readonly commitTime: number | undefined;
}

/**
 * Rings a reader's bell so often that nothing is missed. To sleep, a reader says so in the database, where each
 * publisher looks (sql/025). A transaction that looked before may commit later, without a NOTIFY: so the reader goes
 * on looking until those that were publishing then have ended. Under load it takes its word back and looks every few
 * milliseconds, since NOTIFY makes all commits of the cluster wait for each other.
 */
export class Waking {
  /** To be attached to the listener; rings the reader's bell. */
  readonly heard: Bell;
  readonly #bell: Bell;
  readonly #listener: Listener;
  readonly #sleeper: string;
  readonly #channels: string | null;
  readonly #pollInterval: number;
  #state: "deaf" | "away" | "awake" | "falling" | "asleep" = "deaf";
  /** The LISTEN session that hears. */
  #key: bigint | undefined;
  /** Until when there is a row, at least. */
  #until = -Infinity;
  #renewAt = -Infinity;
  /** When the row was made, or taken away. */
  #changedAt = -Infinity;
  /** Whether it is awake because of a load. */
  #loaded = false;
  /** When to look next: who is awake, or falls asleep. */
  #next = -Infinity;
  #step = firstLook;
  /** Transactions to be waited for, as PostgreSQL writes an array. */
  #awaited = "{}";
  #rate = { since: -Infinity, count: 0, high: 0 };
  /** While it is awake: what a rate of what it finds is taken from. */
  #found: { since: number; count: number | undefined } = { since: -Infinity, count: 0 };

  /**
   * @param bell What the reader waits on.
   * @param sleeper A uuid that nobody else sleeps under.
   * @param channels Null: all.
   * @param pollInterval How seldom it may look while it falls asleep, in milliseconds.
   */
  constructor(
    bell: Bell,
    listener: Listener,
    sleeper: string,
    channels: readonly string[] | null,
    pollInterval: number,
  ) {
    this.#bell = bell;
    this.heard = new Bell(bell);
    this.#listener = listener;
    this.#sleeper = sleeper;
    this.#channels = channels === null ? null : JSON.stringify(channels);
    this.#pollInterval = pollInterval;
  }

  /** Does what is due. To be called whenever the reader has looked, been rung, or waited until `due`. */
  async tend(session: Queryable, standing: Standing): Promise<void> {
    const now = performance.now();
    const key = this.#listener.live ? this.#listener.sessionKey : undefined;
    if (key === undefined) {
      this.#state = "deaf"; // it polls
      return;
    }
    if (!standing.open) {
      this.#state = "away";
      if (now < this.#until && now >= this.#changedAt + leastSleep) await this.#rise(session, now);
      return;
    }
    if (this.#state === "deaf" || this.#state === "away" || key !== this.#key) {
      this.#key = key;
      this.#awaken(now, standing.found, false);
      this.#bell.ring();
    }
    if (this.#state === "awake") await this.#watch(session, standing, now);
    else {
      await this.#fall(session, now);
      await this.#renew(session, standing, now);
      if (this.#isBusy(now, standing)) {
        this.#awaken(now, standing.found, true); // first: that it may not be woken any more is certain, that it rose is not
        await this.#rise(session, now);
      }
    }
  }

  /** When to be tended at the latest, by `performance.now()`. */
  due({ open, full }: Pick<Standing, "open" | "full">): number {
    switch (this.#state) {
      case "deaf":
        return Infinity;
      case "away":
        return !open && performance.now() < this.#until ? this.#changedAt + leastSleep : Infinity;
      case "awake":
        return full ? Infinity : this.#next;
      case "falling":
        return this.#next;
      case "asleep":
        return this.#renewAt;
    }
  }

  /** Takes its word back, so that publishers do not go on for one that has gone. */
  async leave(session: Queryable): Promise<void> {
    this.#state = "deaf";
    if (performance.now() < this.#until) await this.#rise(session, performance.now());
  }

  #awaken(now: number, count: number | undefined, loaded: boolean): void {
    this.#state = "awake";
    this.#loaded = loaded;
    this.#found = { since: now, count };
    this.#next = now;
  }

  /** Awake: looks, or falls asleep where there is nothing to see. */
  async #watch(session: Queryable, standing: Standing, now: number): Promise<void> {
    const { drained, full, busyAt } = standing;
    const calm = !this.#loaded || this.#isCalm(now, standing);
    if (drained && !full && calm) {
      await this.#lieDown(session, now);
    } else if (now >= this.#next && !full) {
      this.#next = now + (now - busyAt < awhile ? glance : idleGlance);
      this.#bell.ring();
    }
  }

  /** Whether it finds so little that publishers may as well wake it. */
  #isCalm(now: number, { busyAt, full, found, commitTime }: Standing): boolean {
    if (now - busyAt >= drowsy) return true;
    const { since, count } = this.#found;
    const elapsed = now - since;
    if (elapsed < drowsy && !full) return false;
    this.#found = { since: now, count: found };
    if (full || found === undefined || count === undefined) return false;
    return (found - count) * 1000 / elapsed < calmShare * busyRate(commitTime);
  }

  async #lieDown(session: Queryable, now: number): Promise<void> {
    await this.#sleep(session);
    this.#changedAt = now;
    this.#rate = { since: now, count: this.heard.count, high: 0 };
    this.#awaited = await this.#publishers(session, null);
    this.#state = "falling";
    this.#step = firstLook;
    this.#next = now;
    await this.#fall(session, now);
  }

  /** Falling asleep: looks until all that may not have seen it sleep have ended, and once more. */
  async #fall(session: Queryable, now: number): Promise<void> {
    if (this.#state !== "falling" || now < this.#next) return;
    if (this.#awaited !== "{}") this.#awaited = await this.#publishers(session, this.#awaited);
    if (this.#awaited === "{}") this.#state = "asleep";
    this.#next = now + this.#step;
    this.#step = Math.min(this.#step * 1.5, this.#pollInterval);
    this.#bell.ring();
  }

  /** A row that has expired meanwhile is as good as none: all is done again. */
  async #renew(session: Queryable, standing: Standing, now: number): Promise<void> {
    if (now < this.#renewAt) return;
    if (standing.drained) {
      if (!await this.#sleep(session)) this.#awaken(now, standing.found, false);
    } else if (now < this.#until) this.#renewAt = Math.min(now + 1000, this.#until);
    else this.#awaken(now, standing.found, false);
  }

  /** Whether it is woken so often that it had better stay awake. */
  #isBusy(now: number, { commitTime }: Standing): boolean {
    const elapsed = now - this.#rate.since;
    if (elapsed >= span) {
      const { count } = this.heard;
      const high = (count - this.#rate.count) * 1000 / elapsed >= busyRate(commitTime);
      this.#rate = { since: now, count, high: high ? this.#rate.high + 1 : 0 };
    }
    return this.#rate.high >= spans && now - this.#changedAt >= leastSleep;
  }

  /** @returns whether it had been asleep all the time. */
  async #sleep(session: Queryable): Promise<boolean> {
    const before = performance.now();
    const { rows: [row] } = await translated(() =>
      session.query(
        `select hark.sleep($1::uuid,
          case when $2::text is not null then array(select pg_catalog.json_array_elements_text($2::text::json)) end,
          $3::bigint, $4::integer) as covered`,
        [this.#sleeper, this.#channels, String(this.#key), lasting],
      )
    );
    this.#until = before + lasting;
    this.#renewAt = before + lasting / 2;
    return row.covered;
  }

  async #publishers(session: Queryable, among: string | null): Promise<string> {
    const { rows: [row] } = await translated(() =>
      session.query("select hark.publishers($1::text::xid[])::text as left", [among])
    );
    return row.left;
  }

  async #rise(session: Queryable, now: number): Promise<void> {
    this.#until = -Infinity;
    this.#changedAt = now;
    await translated(async () => {
      await session.query("select hark.rise($1::uuid)", [this.#sleeper]);
      await session.query("select hark.shut_gate()");
    });
  }
}

/** From how many NOTIFYs a second on a reader stays awake. */
function busyRate(commitTime: number | undefined): number {
  const rate = commitTime === undefined ? 0 : busyShare * 1000 / commitTime;
  return Math.min(Math.max(rate, leastBusyRate), mostBusyRate);
}
