/**
 * Decides when a reader sleeps until it is notified, and when it keeps looking at the log instead.
 *
 * @module
 */

import { Bell } from "../../database/bell.ts";
import type { Listener } from "../../database/listener.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import type { Standing, Wakes } from "../state/context.ts";
import { renewByHeartbeat, SleeperRow, sleepTime } from "../state/sleepers.ts";
import { fallTime, LoadMeter, riseTime } from "./load_meter.ts";
import { glance, LookPace } from "./look_pace.ts";
import { stayAsleep } from "./renewals.ts";

/** How long the row of a reader lasts that renews nothing: longer than it sleeps, in milliseconds. */
const longest = 86_400_000 + 600_000;
/**
 * Rings a reader's bell often enough that nothing is missed.
 *
 * To sleep, a reader stores a sleeper row in the database, where each publisher looks
 * (sql/read/wake.sql). A transaction that looked before may commit later, without a NOTIFY. So the
 * reader continues to look until the transactions that were publishing then have ended. Under load
 * the reader removes its row and looks every few milliseconds, because NOTIFY makes all commits of
 * the cluster wait for each other.
 */
export class Wakeup implements Wakes {
  /** Must be attached to the listener. Rings the reader's bell. */
  readonly heard: Bell;
  readonly #bell: Bell;
  readonly #listener: Listener;
  readonly #row: SleeperRow;
  readonly #channels: string;
  readonly #pollInterval: number;
  #state: "polling" | "idle" | "awake" | "arming" | "armed" = "polling";
  /** The key of the LISTEN session that hears for this reader. */
  #key: bigint | undefined;
  /** When the reader last fell asleep or woke. */
  #changedAt = -Infinity;
  /** When to look next, while the reader is awake or falls asleep. */
  #next = -Infinity;
  /** The time from the last look while awake to the next. */
  #pause = glance;
  #step = glance;
  readonly #pace = new LookPace();
  /** The transactions to be waited for, as PostgreSQL writes an array. */
  #awaited = "{}";
  /** Measures the NOTIFYs heard while asleep, and the notifications found while awake. */
  readonly #load = new LoadMeter();

  /**
   * @param bell The bell that the reader waits on.
   * @param sleeper A uuid that no other reader uses.
   * @param pollInterval The longest time between two looks while falling asleep, in milliseconds.
   */
  constructor(
    bell: Bell,
    listener: Listener,
    sleeper: string,
    channels: readonly string[],
    pollInterval: number,
  ) {
    this.#bell = bell;
    this.heard = new Bell(bell);
    this.#listener = listener;
    this.#row = new SleeperRow(sleeper, new Set(channels).size, this.heard);
    this.#channels = JSON.stringify(channels);
    this.#pollInterval = pollInterval;
  }

  /**
   * Has heartbeats of the process keep the reader asleep. Not if it ever lies down: a heartbeat that is
   * on its way would shorten the sleep. Returns a function that ends that.
   */
  renewByHeartbeat(): () => void {
    return renewByHeartbeat(this.#listener, this.#row);
  }

  /**
   * Does what is due. Call it whenever the reader has looked, was rung, or has waited until `due`.
   */
  async tend(session: Queryable, standing: Standing): Promise<void> {
    const now = performance.now();
    const key = this.#listener.live ? this.#listener.sessionKey : undefined;
    const isAsleep = this.isArmed && standing.open && standing.drained;
    this.#row.sleptAt = isAsleep ? this.heard.count : undefined;
    if (key === undefined) {
      this.#state = "polling"; // the reader polls
      return;
    }
    if (!standing.open) {
      this.#state = "idle";
      if (now < this.#row.until && now >= this.#changedAt + riseTime) {
        await this.#disarm(session);
      }
      return;
    }
    if (this.#state === "polling" || this.#state === "idle" || key !== this.#key) {
      this.#key = key;
      this.#awaken(now, standing.found, false);
      this.#bell.ring();
    }
    if (this.#state === "awake") await this.#watch(session, standing, now);
    else {
      await this.#advance(session, now);
      await this.#renew(session, standing, now);
      if (this.#load.measure(now, this.heard.count, standing.commitTime)) {
        this.#awaken(now, standing.found, true); // first: after disarming no NOTIFY is certain
        await this.#disarm(session);
      }
    }
  }

  /** When `tend` must be called at the latest, by `performance.now()`. */
  due({ open, full }: Pick<Standing, "open" | "full">): number {
    switch (this.#state) {
      case "polling":
        return Infinity;
      case "idle":
        return !open && performance.now() < this.#row.until ? this.#changedAt + riseTime : Infinity;
      case "awake":
        return full ? Infinity : this.#next;
      case "arming":
        return this.#next;
      case "armed":
        return this.#row.renewAt;
    }
  }

  /** Whether publishers wake the reader, and it has looked after those that may not have. */
  get isArmed(): boolean {
    return this.#state === "armed" && this.#listener.live &&
      this.#listener.sessionKey === this.#key && performance.now() < this.#row.until;
  }

  /**
   * Has publishers wake an armed reader for longer than it will sleep.
   *
   * @returns whether they would have woken it all the time until now. If not, it has to look first.
   */
  async lieDown(session: Queryable): Promise<boolean> {
    if (!this.isArmed) return false;
    const covered = await this.#sleep(session, longest);
    if (!covered) this.#awaken(performance.now(), undefined, false);
    return covered && this.isArmed;
  }

  /** The reader is up again: its row is renewed, for as long as usual, with the next look. */
  rise(): void {
    this.#row.renewAt = -Infinity;
  }

  /**
   * The LISTEN session that hears for the reader now has no heartbeat. Returns a function that ends
   * that.
   */
  rest(): () => void {
    return this.#listener.bells.rest(this.heard);
  }

  /** Removes the sleeper row, so that publishers do not go on notifying a reader that has gone. */
  async leave(session: Queryable): Promise<void> {
    this.#state = "polling";
    if (performance.now() < this.#row.until) await this.#disarm(session);
  }

  #awaken(now: number, found: number | undefined, isLoaded: boolean): void {
    this.#state = "awake";
    this.#changedAt = now;
    this.#load.restart(isLoaded, now, found);
    this.#next = now;
  }

  /** While awake: looks, or falls asleep if there is nothing to see. */
  async #watch(session: Queryable, standing: Standing, now: number): Promise<void> {
    const { drained, full, lookedAt } = standing;
    if (this.#load.isHigh) this.#measure(standing, now);
    if (drained && !full && !this.#load.isHigh) {
      await this.#arm(session, now);
      return;
    }
    // Another reader may have looked for this one.
    if (lookedAt !== undefined) {
      this.#next = Math.max(this.#next, lookedAt + this.#pause);
    }
    if (now >= this.#next && !full) {
      this.#pause = this.#pace.next(standing, now);
      this.#next = now + this.#pause;
      this.#bell.ring();
    }
  }

  /** While awake because of load: finds out whether publishers may as well wake the reader. */
  #measure({ full, busyAt, found, commitTime }: Standing, now: number): void {
    const isQuiet = now - Math.max(busyAt, this.#changedAt) >= fallTime;
    // While there is no room, the reader finds less than is published.
    if (full || isQuiet) this.#load.restart(!isQuiet, now, found);
    else this.#load.measure(now, found, commitTime);
  }

  async #arm(session: Queryable, now: number): Promise<void> {
    await this.#sleep(session);
    this.#changedAt = now;
    this.#load.restart(false, now, this.heard.count);
    this.#awaited = await this.#publishers(session, null);
    this.#state = "arming";
    this.#step = glance;
    this.#next = now;
    await this.#advance(session, now);
  }

  /**
   * While falling asleep: looks until all transactions that may have missed the sleeper row have
   * ended, and once more.
   */
  async #advance(session: Queryable, now: number): Promise<void> {
    if (this.#state !== "arming" || now < this.#next) return;
    if (this.#awaited !== "{}") this.#awaited = await this.#publishers(session, this.#awaited);
    if (this.#awaited === "{}") this.#state = "armed";
    this.#next = now + this.#step;
    this.#step = Math.min(this.#step * 1.5, this.#pollInterval);
    this.#bell.ring();
  }

  /**
   * Renews the sleeper row. A row that has expired counts as missing, so falling asleep begins
   * anew.
   */
  async #renew(session: Queryable, standing: Standing, now: number): Promise<void> {
    if (now < this.#row.renewAt) return;
    if (standing.drained) {
      if (!await this.#stay(session)) this.#awaken(now, standing.found, false);
    } else if (now < this.#row.until) this.#row.renewAt = Math.min(now + 1000, this.#row.until);
    else this.#awaken(now, standing.found, false);
  }

  /** Renews the sleeper row. Returns whether the reader was asleep all the time until now. */
  async #stay(session: Queryable): Promise<boolean> {
    const before = performance.now();
    const { sleeper, channels } = this.#row;
    const renewed = await stayAsleep(session, this.#listener, this.#key!, sleeper, sleepTime);
    if (renewed < channels) return await this.#sleep(session);
    this.#row.stored(before);
    return true;
  }

  /**
   * Stores the sleeper row.
   *
   * @returns whether the reader was asleep all the time until now.
   */
  async #sleep(session: Queryable, time: number = sleepTime): Promise<boolean> {
    const before = performance.now();
    const { rows: [row] } = await translated(() =>
      session.query(
        `select hark.sleep($1::uuid, array(select pg_catalog.json_array_elements_text($2::text::json)),
          $3::bigint, $4::integer) as covered`,
        [this.#row.sleeper, this.#channels, String(this.#key), time],
      )
    );
    this.#row.stored(before, time);
    return row.covered;
  }

  async #publishers(session: Queryable, among: string | null): Promise<string> {
    const { rows: [row] } = await translated(() =>
      session.query("select hark.publishers($1::text::xid[])::text as left", [among])
    );
    return row.left;
  }

  async #disarm(session: Queryable): Promise<void> {
    this.#row.until = -Infinity;
    await translated(async () => {
      await session.query("select hark.wake_up($1::uuid)", [this.#row.sleeper]);
      await session.query("select hark.shut_gates()");
    });
  }
}
