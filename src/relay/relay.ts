/**
 * A relay: a consumer that publishes what it reads to a target outside this database.
 *
 * @module
 */

import { orAborted } from "../aborted.ts";
import { bad } from "../check.ts";
import { Consumer } from "../consume/consumer.ts";
import { namesOf } from "../consume/check_options.ts";
import { OneRun } from "./one_run.ts";
import type { Readiness } from "../consume/readiness.ts";
import type { RunOptions } from "../consume/run_options.ts";
import type { Queryable } from "../database/queryable.ts";
import { requireQueryable } from "../database/queryable.ts";
import { messageOf } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";
import { checkedValues } from "../option_rules.ts";
import { requireSchema } from "../schema/migrate.ts";
import { waitedFor } from "../consume/state/work.ts";
import { Delivery, type Published } from "./delivery.ts";
import { type RelayOptions, relayRules } from "./options.ts";
import { Places } from "./places.ts";
import { previews, type RelayPreview } from "./preview.ts";
import type { OpenSink } from "./sink.ts";
import { Troubles } from "./troubles.ts";

const logger = getLogger(["hark", "relay"]);

/** How many batches are under way at a time, so that the target never waits for the next one. */
const batches = 4;

/** What a look at a relay's target has found. */
export interface RelayCheck {
  /** The target, with what tells it from another one of its name. */
  readonly target: string;
  /** What may lose messages or hold them up, one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * A relay, as {@linkcode relay} makes it. It is a consumer: `hark status`, `hark pause`, `hark replay`,
 * `hark dead list` and all others work on its id.
 */
export class Relay {
  readonly #db: Queryable;
  readonly #options: RelayOptions;
  readonly #inFlight: number;
  readonly #stopTimeout: number;
  readonly #lease: number;
  #delivery: Pick<Delivery, "handle" | "handleOne"> | undefined;
  readonly #one: OneRun;
  readonly #consumer: Consumer;
  /** The name under which the database keeps the relay's position. */
  readonly id: string;

  /** Use {@linkcode relay}. */
  constructor(db: Queryable, options: RelayOptions) {
    requireQueryable(db);
    const { inFlight, stopTimeout, lease } = checkedValues("a relay", relayRules, options);
    const { to, onPublished: _, inFlight: __, ...rest } = options;
    if (typeof to?.open !== "function") {
      bad("to", to, 'Give a target, such as jetStream({ stream: "ORDERS" }).');
    }
    this.#db = db;
    this.#options = options;
    this.#inFlight = inFlight;
    this.#stopTimeout = stopTimeout;
    this.#lease = lease;
    this.id = options.id;
    this.#one = new OneRun(`relay "${this.id}"`);
    this.#consumer = new Consumer(db, {
      ...rest,
      stopTimeout: this.#stopTimeout,
      // A slow machine may lose its lease again and again: that is not a notification's fault.
      maxCrashes: 1_000,
      ...to.isolated === true
        ? {
          concurrency: this.#inFlight,
          handle: (notification, context) => this.#delivery!.handleOne(notification, context),
        }
        : {
          batchSize: Math.max(1, Math.floor(this.#inFlight / batches)),
          concurrency: Math.min(batches, this.#inFlight),
          // If the target is away, all keys wait for it: to read on would be of no use.
          handleBatch: waitedFor((all, context) => this.#delivery!.handle(all, context)),
        },
    });
  }

  /**
   * Relays until stopped: what was missed, then each notification as it is committed. If the
   * connection to the target or the database is lost, the relay reconnects, however long that takes.
   *
   * @throws {HarkError} At once if the target cannot be reached or does not fit, with the reason. Later
   *   only for what does not pass by itself. As {@linkcode Consumer.run}.
   */
  async run(options: RunOptions = {}): Promise<void> {
    await this.#run((signal) => this.#consumer.run({ signal }), options);
  }

  /**
   * Relays what was committed when the call was made, then returns how many notifications were
   * handled. As {@linkcode Consumer.drain}.
   *
   * @throws {HarkError} As {@linkcode Relay.run}.
   */
  async drain(options: RunOptions = {}): Promise<number> {
    return await this.#run((signal) => this.#consumer.drain({ signal }), options) ?? 0;
  }

  /**
   * Resolves when a run is ready: as {@linkcode Consumer.ready}. Rejects if the target cannot be
   * reached or does not fit.
   */
  get ready(): Promise<void> {
    return this.#one.ready;
  }

  /** Waits for acknowledgements under way, stores the position, closes the target, and ends the run. */
  async stop(): Promise<void> {
    await this.#one.stop();
  }

  /**
   * Looks whether the target can take what is to come. Publishes nothing. If a function makes the
   * subjects, only {@linkcode Relay.preview} can tell whether the stream takes them.
   *
   * @throws {HarkError} If it cannot be reached or does not fit; `DESTINATION` if the stream takes no
   *   subject of a channel; `CONFLICT` if another relay of this
   *   name is at work for another target.
   */
  async check(): Promise<RelayCheck> {
    const ending = new AbortController();
    await using sink = await this.#open(ending.signal, () => {});
    try {
      await using _places = await this.#places(sink);
      const channels = namesOf(this.#options.channels) ?? [];
      for (const channel of [channels].flat()) sink.requireChannel?.(channel);
      return { target: sink.target, warnings: sink.warnings };
    } finally {
      ending.abort(new Error("the look is over"));
    }
  }

  /**
   * A dry run: tells for what is unread now where it would go, and publishes nothing. The position does
   * not move. Begins near the oldest unread notification, or where a new relay would begin. The option
   * `filter` is not looked at.
   *
   * @throws {HarkError} As {@linkcode Relay.check}.
   */
  async *preview(): AsyncGenerator<RelayPreview, void> {
    const ending = new AbortController();
    await using sink = await this.#open(ending.signal, () => {});
    try {
      await using places = await this.#places(sink);
      yield* previews(this.#db, this.#options, sink, places.install, ending.signal);
    } finally {
      ending.abort(new Error("the look is over"));
    }
  }

  async #open(signal: AbortSignal, trouble: (reason?: string) => void): Promise<OpenSink> {
    return await this.#options.to.open({ relay: this.id, db: this.#db, signal, trouble });
  }

  async #places(sink: OpenSink): Promise<Places> {
    await requireSchema(this.#db);
    const places = new Places(this.#db, this.id, sink, this.#lease);
    await places.check();
    return places;
  }

  #run<T>(
    run: (signal: AbortSignal) => Promise<T>,
    { signal }: RunOptions,
  ): Promise<T | undefined> {
    return this.#one.run((stopping, ready) => this.#relay(run, stopping, ready), signal);
  }

  /** Opens the target, and runs the consumer. Gives nothing if it was stopped before. */
  async #relay<T>(
    run: (signal: AbortSignal) => Promise<T>,
    stopping: AbortSignal,
    ready: Readiness,
  ): Promise<T | undefined> {
    const ending = new AbortController();
    const failed = new AbortController();
    const troubles = new Troubles("relay", this.id, this.#db);
    const trouble = (reason?: string) => troubles.tell(reason);
    try {
      await using sink = await this.#opened(ending, stopping, trouble);
      if (sink === undefined) return undefined;
      try {
        await using places = await this.#places(sink);
        trouble(); // an earlier process may have died while it waited
        for (const warning of sink.warnings) {
          logger.warn("{relay}: {warning}", { relay: this.id, warning });
        }
        this.#delivery = new Delivery({
          sink,
          places,
          trouble,
          published: (published) => this.#published(published),
          fatal: (error) => {
            failed.abort(error);
            // Handlers that wait for ever count as not called.
            ending.abort(error);
          },
        });
        const running = run(AbortSignal.any([failed.signal, stopping]));
        this.#consumer.ready.then(() => ready.resolve(), () => {}); // run() says why
        const done = await running;
        failed.signal.throwIfAborted();
        return done;
      } finally {
        ending.abort(new Error("the relay has ended"));
      }
    } finally {
      this.#delivery = undefined;
      await troubles.forget();
    }
  }

  /** Opens the target. If the run is stopped before, it gives none, and closes what opens later. */
  async #opened(
    ending: AbortController,
    stopping: AbortSignal,
    trouble: (reason?: string) => void,
  ): Promise<OpenSink | undefined> {
    const opening = this.#open(ending.signal, trouble);
    try {
      return await orAborted(opening, stopping);
    } catch (error) {
      ending.abort(error);
      if (!stopping.aborted) throw error;
      opening.then((sink) => sink[Symbol.asyncDispose]()).catch(() => {}); // stopped, so no matter
      return undefined;
    }
  }

  #published({ notification, receipt }: Published): void {
    const { onPublished } = this.#options;
    if (onPublished === undefined) return;
    void (async () => await onPublished(notification, receipt))().catch((error) =>
      logger.error("{relay}: the hook onPublished failed: {reason}", {
        relay: this.id,
        reason: messageOf(error),
        error,
      })
    );
  }
}

/**
 * Makes a relay: a consumer that publishes the notifications of channels to a target outside this
 * database, such as a stream of NATS JetStream. The notifications of a key arrive in order, each once.
 * The position moves only after the target has acknowledged.
 *
 * Several processes may run the same relay. They share its `partitions`.
 *
 * @throws {HarkError} `BAD_OPTION`, `BAD_CHANNEL`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { jetStream, relay } from "@hark/postgres/relay";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const out = relay(db, {
 *   id: "shop-out",
 *   channels: "orders",
 *   to: jetStream({ stream: "SHOP", subject: "shop.{channel}.{key}" }),
 * });
 * Deno.addSignalListener("SIGTERM", () => out.stop());
 * await out.run();
 * ```
 */
export function relay(db: Queryable, options: RelayOptions): Relay {
  return new Relay(db, options);
}
