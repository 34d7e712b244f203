/**
 * Several workers in this process, and one ledger of what they handle between them.
 *
 * @module
 */

import { connect, type ConsumerOptions, type Database, type Notification } from "../../../mod.ts";
import { Running } from "../../faults/_support/running.ts";
import { type Row, until, type Wait } from "../../harness/mod.ts";
import type { Entry } from "./ledger.ts";

/** A worker of a crew. */
export interface Hand {
  readonly number: number;
  readonly db: Database;
  readonly running: Running;
}

/** What runs SQL and says where it does. */
export interface Place {
  readonly url: string;
  sql(text: string, values?: unknown[]): Promise<Row[]>;
}

/** Workers of consumer `c` that come and go. Disposing of it has all leave in order. */
export class Crew implements AsyncDisposable {
  /** All handlings, in the order in which they began and ended. */
  readonly entries: Entry[] = [];
  readonly hands: Hand[] = [];
  readonly #place: Place;
  readonly #options: ConsumerOptions;
  readonly #flaky: number;
  #joined = 0;

  /** `flaky` is the share of handlings that fail, at random. */
  constructor(place: Place, options: ConsumerOptions, flaky = 0) {
    this.#place = place;
    this.#options = options;
    this.#flaky = flaky;
  }

  /** One more worker, with options of its own. */
  async join(options: ConsumerOptions = {}): Promise<Hand> {
    const db = await connect(this.#place.url);
    const number = ++this.#joined;
    const running = new Running(db, {
      ...this.#options,
      ...options,
      handle: async (n) => {
        this.#note("began", number, n);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
        if (Math.random() < this.#flaky) {
          this.#note("failed", number, n);
          throw new Error("flaky");
        }
        this.#note("ended", number, n);
      },
    });
    const hand = { number, db, running };
    this.hands.push(hand);
    return hand;
  }

  /** A worker ends in order. */
  async leave(hand: Hand): Promise<void> {
    this.hands.splice(this.hands.indexOf(hand), 1);
    try {
      await hand.running.stop();
    } finally {
      await hand.db[Symbol.asyncDispose]();
    }
  }

  /** Waits until this many workers share all partitions, none with two more than another. */
  async fair(workers: number, wait: Wait = {}): Promise<void> {
    await until(async () => {
      const rows = await this.#place.sql(
        `select owner, count(*)::int as count from hark.partitions where consumer = 'c' group by owner`,
      );
      const shares = rows.map((row) => row.count);
      const total = shares.reduce((sum, count) => sum + count, 0);
      return total > 0 && rows.every((row) => row.owner !== null) &&
        rows.length === Math.min(workers, total) && Math.max(...shares) - Math.min(...shares) <= 1;
    }, { deadline: 8000, what: `${workers} workers to have a fair share each`, ...wait });
  }

  /** The tokens that were handled to the end. */
  get handled(): Set<string> {
    return new Set(this.entries.filter((e) => e.what === "ended").map((e) => e.token));
  }

  /** All leave in order. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const hand of [...this.hands]) await this.leave(hand);
  }

  #note(what: Entry["what"], worker: number, n: Notification): void {
    this.entries.push({
      what,
      consumer: "c",
      worker,
      id: n.id,
      key: n.key,
      version: n.payload.version,
      token: n.payload.token,
      attempt: n.attempt,
      at: Date.now(),
    });
  }
}
