/**
 * Looks at the database while pages are open, once for all of them.
 *
 * @module
 */

import { pause } from "../database/bell.ts";
import { connectionsOf, type Database } from "../database/database.ts";
import { translate } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { durationText } from "../show.ts";
import { History } from "./history.ts";
import { type Look, Looker } from "./look.ts";
import type { Settings } from "./options.ts";

/** How long to rest at most after a look that has failed, in ms. */
const mostRest = 10_000;

/** What a listener is told. */
export type Told = { readonly look: Look } | { readonly trouble: HarkError };

/** One loop for all open pages; it rests when none is open. */
export class Lookout {
  /** What the last minutes were like. */
  readonly history = new History();
  readonly #looker: Looker;
  readonly #interval: number;
  readonly #patience: number;
  readonly #db: Database;
  readonly #listeners = new Set<(told: Told) => void>();
  #looking: Promise<Look> | undefined;
  #last: { readonly at: number; readonly look: Look } | undefined;
  /** Ends the rest between two looks; undefined while no page is open. */
  #running: AbortController | undefined;

  constructor(db: Database, { interval, statementTimeout }: Settings) {
    this.#looker = new Looker(db, statementTimeout);
    this.#interval = interval;
    this.#patience = statementTimeout + 1000;
    this.#db = db;
  }

  /** How many pages listen. */
  get listeners(): number {
    return this.#listeners.size;
  }

  /** A look that is at most one interval old. @throws {HarkError} */
  async look(): Promise<Look> {
    const last = this.#last;
    if (last !== undefined && performance.now() - last.at < this.#interval) return last.look;
    return await this.#now();
  }

  /** A look that began after this call: for the page after an act. @throws {HarkError} */
  async fresh(): Promise<Look> {
    await this.#looking?.catch(() => {}); // told to those that wait for it
    return await this.#now();
  }

  /** Calls a listener at each look until the signal aborts. */
  listen(listener: (told: Told) => void, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#running?.abort();
    }, { once: true });
    if (this.#running === undefined) void this.#run(this.#running = new AbortController());
  }

  /** Two that ask at once share a look. */
  #now(): Promise<Look> {
    return this.#looking ??= this.#look().finally(() => this.#looking = undefined);
  }

  async #look(): Promise<Look> {
    const look = await this.#looker.look();
    this.#last = { at: performance.now(), look };
    this.history.add(look.at.getTime(), look.status.consumers);
    return look;
  }

  #tell(told: Told): void {
    for (const listener of [...this.#listeners]) listener(told);
  }

  #silent(): HarkError {
    return new HarkError(
      "TIMEOUT",
      `looking at the database takes longer than ${durationText(this.#patience)}`,
    );
  }

  async #run(running: AbortController): Promise<void> {
    const ended = Promise.withResolvers<void>();
    // A database that closes waits for the look that is under way.
    const forget = connectionsOf(this.#db)?.beforeClose(async () => {
      this.#listeners.clear();
      running.abort();
      await ended.promise;
    });
    try {
      while (!running.signal.aborted) {
        const begun = performance.now();
        // A server that is cut off ends no statement, and the driver waits for much longer.
        const late = setTimeout(() => this.#tell({ trouble: this.#silent() }), this.#patience);
        const told = await this.#now().then(
          (look): Told => ({ look }),
          (error): Told => ({ trouble: translate(error) }),
        );
        clearTimeout(late);
        this.#tell(told);
        // A slow look is repeated less often, so that looking takes a fifth of the time at most. After a failed
        // one the rest is short: pages must not stay dark once the database is back.
        const took = performance.now() - begun;
        const rest = "trouble" in told
          ? Math.min(Math.max(this.#interval - took, 4 * took), mostRest)
          : Math.max(this.#interval - took, 4 * took);
        await pause(rest, running.signal);
      }
    } finally {
      this.#running = undefined;
      forget?.();
      ended.resolve();
      // A page was opened while this ended.
      if (this.#listeners.size > 0) void this.#run(this.#running = new AbortController());
    }
  }
}
