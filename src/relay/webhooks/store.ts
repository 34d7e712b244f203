/**
 * The states of endpoints in the database, as this process knows them.
 *
 * @module
 */

import { inItsEncoding } from "../../database/encoding.ts";
import type { Queryable } from "../../database/queryable.ts";
import { messageOf, translated } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import type { Failing } from "./condition.ts";

const logger = getLogger(["hark", "relay"]);

/** How long changes are collected before they are stored, in milliseconds. */
const collecting = 500;

/** After how long what was loaded is looked at again, in milliseconds. */
const fresh = 3_000;

/** Loads the states, and stores what changes. */
export class EndpointStore implements AsyncDisposable {
  readonly #db: Queryable;
  readonly #relay: string;
  /** What is stored, and what is to be stored. */
  readonly #known = new Map<string, Failing>();
  /** What is to be stored: undefined for an endpoint that takes messages again. */
  #changed = new Map<string, Failing | undefined>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Settles when all looks and changes until now are through: they take turns. */
  #turn: Promise<unknown> = Promise.resolve();
  /** The next look, for all that ask until it begins. */
  #next: Promise<void> | undefined;
  #refreshing: Promise<void> | undefined;
  #lookedAt = -Infinity;

  constructor(db: Queryable, relay: string) {
    this.#db = db;
    this.#relay = relay;
  }

  /** What is known of an endpoint. Undefined if it takes messages. */
  known(name: string): Failing | undefined {
    return this.#known.get(name);
  }

  /** Looks at what is stored. The look begins after the call: an endpoint may just have been redriven. */
  async load(): Promise<void> {
    await (this.#next ??= this.#inTurn(() => {
      this.#next = undefined;
      return this.#load();
    }));
  }

  /** Looks at what is stored if the last look was some seconds ago: other processes store too. */
  async refresh(): Promise<void> {
    if (performance.now() - this.#lookedAt < fresh) return;
    await (this.#refreshing ??= this.#refresh().finally(() => this.#refreshing = undefined));
  }

  async #refresh(): Promise<void> {
    try {
      await this.load();
    } catch (error) {
      this.#lookedAt = performance.now(); // not for each message
      logger.warn("{relay}: could not look at the states of its endpoints: {reason}", {
        relay: this.#relay,
        reason: messageOf(error),
      });
    }
  }

  async #load(): Promise<void> {
    const { rows } = await translated(() =>
      this.#db.query(
        "select endpoint, disabled, failures, status, reason, " +
          "(extract(epoch from pg_catalog.clock_timestamp() - failing_since) * 1000)::float8 as failing_ms, " +
          "(extract(epoch from asked_again_at - pg_catalog.clock_timestamp()) * 1000)::float8 as wait_ms " +
          "from hark.relay_endpoints($1::text)",
        [this.#relay],
      )
    );
    const now = this.#lookedAt = performance.now();
    this.#known.clear();
    for (const row of rows as Row[]) this.#known.set(row.endpoint, failingOf(row, now));
    // What is not stored yet is newer. It enables none that is stored as disabled.
    for (const [name, failing] of this.#changed) {
      if (this.#known.get(name)?.disabled) continue;
      if (failing === undefined) this.#known.delete(name);
      else this.#known.set(name, failing);
    }
  }

  /** An endpoint has failed. */
  failing(name: string, failing: Failing): void {
    this.#known.set(name, failing);
    this.#note(name, failing);
  }

  /** An endpoint takes messages again. */
  recovered(name: string): void {
    this.#known.delete(name);
    this.#note(name, undefined);
  }

  #note(name: string, failing: Failing | undefined): void {
    this.#changed.set(name, failing);
    this.#timer ??= setTimeout(() => this.#begin(), collecting);
  }

  #begin(): void {
    this.#timer = undefined;
    this.#inTurn(async () => {
      const changed = this.#changed;
      this.#changed = new Map();
      try {
        await this.#store(changed);
      } catch (error) {
        logger.warn("{relay}: could not store the states of {count} endpoints: {reason}", {
          relay: this.#relay,
          count: changed.size,
          reason: messageOf(error),
        });
        // The next change takes them along.
        for (const [name, one] of changed) if (!this.#changed.has(name)) this.#note(name, one);
      }
    });
  }

  /** Does one thing after another: a look must see what was stored before. */
  #inTurn(task: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(task);
    this.#turn = done.catch(() => {}); // the caller hears of it
    return done;
  }

  async #store(changed: ReadonlyMap<string, Failing | undefined>): Promise<void> {
    const now = performance.now();
    const failing = (writable: (text: string) => string) =>
      [...changed].flatMap(([endpoint, one]) =>
        one === undefined ? [] : [{
          endpoint,
          disabled: one.disabled,
          failures: one.failures,
          failing_ms: now - one.since,
          wait_ms: Math.max(0, one.until - now),
          status: one.status ?? null,
          reason: writable(one.reason),
        }]
      );
    const recovered = [...changed].flatMap(([name, one]) => one === undefined ? [name] : []);
    await translated(() =>
      inItsEncoding((writable) =>
        this.#db.query(
          "select hark.keep_relay_endpoints($1::text, $2::text::json, " +
            "array(select pg_catalog.json_array_elements_text($3::text::json)))",
          [this.#relay, JSON.stringify(failing(writable)), JSON.stringify(recovered)],
        )
      )
    );
  }

  /** Stores what is left to store. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#begin();
    }
    await this.#turn;
    clearTimeout(this.#timer);
  }
}

/** A row of an endpoint. Drivers give some numbers as text. */
interface Row {
  readonly endpoint: string;
  readonly disabled: boolean;
  readonly failures: number;
  readonly status: number | null;
  readonly reason: string;
  /** For how long it has failed, in milliseconds. */
  readonly failing_ms: number | string;
  /** In how many milliseconds it is asked again. Null if it is disabled. */
  readonly wait_ms: number | string | null;
}

/** What a row says, if it was read at `now`. */
function failingOf(row: Row, now: number): Failing {
  return {
    disabled: row.disabled,
    failures: Number(row.failures),
    since: now - Number(row.failing_ms),
    until: row.wait_ms === null ? Infinity : now + Number(row.wait_ms),
    status: row.status === null ? undefined : Number(row.status),
    reason: row.reason,
  };
}
