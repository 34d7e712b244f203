/**
 * The way back: messages of a stream become notifications, each once, in order.
 *
 * @module
 */

import type { JsMsg } from "@nats-io/jetstream";
import { orAborted } from "../aborted.ts";
import { bad } from "../check.ts";
import { OneRun } from "../relay/one_run.ts";
import type { Readiness } from "../consume/readiness.ts";
import type { RunOptions } from "../consume/run_options.ts";
import type { Database } from "../database/database.ts";
import { messageOf, translated } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";
import { pause } from "../relay/delivery.ts";
import { Troubles } from "../relay/troubles.ts";
import { requireSchema } from "../schema/migrate.ts";
import { shellWord } from "../visible.ts";
import { checkedInbox } from "./check_options.ts";
import { firstError, passes } from "./failures.ts";
import { Feed } from "./feed.ts";
import { itemOf, itemsOf } from "./map.ts";
import { messageIn } from "./message.ts";
import type { InboxMessage, InboxOptions } from "./options.ts";
import { behind, isTaken, type Place, placeIn } from "./place.ts";
import { type Bad, type Made, publishBatch } from "./publish.ts";
import { nothingTaken, type Taken, together } from "./taken.ts";

const logger = getLogger(["hark", "inbox"]);

/** The first and the longest wait between attempts, in milliseconds. */
const waits = [100, 5_000] as const;

/** An inbox, as {@linkcode inbox} makes it. */
export class Inbox {
  readonly #db: Database;
  readonly #options: InboxOptions;
  readonly #batchSize: number;
  readonly #maxAttempts: number;
  readonly #dedupe: number | undefined;
  readonly #one: OneRun;
  #install = "";
  /** The name under which the database keeps how far the inbox is. */
  readonly id: string;

  /** Use {@linkcode inbox}. */
  constructor(db: Database, options: InboxOptions) {
    if (typeof db?.transaction !== "function") bad("db", db, "Give what connect() gives.");
    const { batchSize, maxAttempts, dedupe } = checkedInbox(options);
    this.id = options.id;
    this.#one = new OneRun(`inbox "${this.id}"`);
    this.#db = db;
    this.#options = options;
    this.#batchSize = batchSize;
    this.#maxAttempts = maxAttempts;
    this.#dedupe = dedupe;
  }

  /**
   * Takes messages until stopped. If a connection is lost, the inbox reconnects, however long that
   * takes.
   *
   * @throws {HarkError} At once if the stream cannot be reached or read. Later `CONFLICT` if another
   *   process serves the inbox, and other errors that do not pass by themselves.
   */
  async run(options: RunOptions = {}): Promise<void> {
    await this.#one.run((stopping, ready) => this.#run(stopping, ready, false), options.signal);
  }

  /**
   * Takes what the stream has now, and returns what became of it.
   *
   * @throws {HarkError} As {@linkcode Inbox.run}.
   */
  async drain(options: RunOptions = {}): Promise<Taken> {
    return await this.#one.run(
      (stopping, ready) => this.#run(stopping, ready, true),
      options.signal,
    );
  }

  /**
   * Resolves when a run reads the stream. Rejects if it fails before, and with `CONFLICT` if it is stopped
   * before.
   */
  get ready(): Promise<void> {
    return this.#one.ready;
  }

  /** Finishes the transaction under way, and ends the run. */
  async stop(): Promise<void> {
    await this.#one.stop();
  }

  async #run(signal: AbortSignal, ready: Readiness, drain: boolean): Promise<Taken> {
    await requireSchema(this.#db);
    const { rows: [row] } = await translated(() =>
      this.#db.query("select install::text as id from hark.relay_place('', null, '', 0)")
    );
    this.#install = row.id;
    const troubles = new Troubles("inbox", this.id, this.#db);
    let taken = nothingTaken;
    let isFirst = true;
    try {
      for (let attempt = 0; !signal.aborted;) {
        try {
          await using feed = await this.#opened(isFirst, signal);
          let place = await this.#place(feed);
          let seen = 0;
          await orAborted(feed.begin(place), signal);
          troubles.tell(undefined);
          isFirst = false;
          ready.resolve();
          while (feed.failure === undefined && !signal.aborted) {
            if (drain && await this.#isDrained(feed, seen)) return taken;
            const messages = await feed.next(signal);
            if (messages.length === 0) continue;
            const upto = await this.#take(feed, messages, place, signal);
            place = upto.place;
            seen = messages.at(-1)!.seq;
            taken = together(taken, upto.taken);
            attempt = 0;
          }
          if (feed.failure !== undefined && !signal.aborted) throw feed.failure;
        } catch (error) {
          if (signal.aborted) break;
          if (isFirst) throw firstError(error);
          if (!passes(error)) throw error;
          troubles.tell(messageOf(error));
          const wait = Math.min(waits[0] * 2 ** attempt++, waits[1]);
          await pause(wait, signal).catch(() => {}); // the signal: the loop ends
        }
      }
    } finally {
      // Also after an error: what has ended waits for nothing.
      await troubles.forget();
    }
    return taken;
  }

  /** Opens the feed. If the run is stopped before, it rejects, and closes what opens later. */
  async #opened(isFirst: boolean, signal: AbortSignal): Promise<Feed> {
    const { stream, subject } = this.#options;
    const opening = Feed.open({
      inbox: this.id,
      server: this.#options,
      stream,
      subject,
      batchSize: this.#batchSize,
    }, isFirst);
    try {
      return await orAborted(opening, signal);
    } catch (error) {
      if (signal.aborted) opening.then((feed) => feed[Symbol.asyncDispose]()).catch(() => {}); // stopped, so no matter
      throw error;
    }
  }

  /** Whether all that the stream had when the feed was opened is taken. */
  async #isDrained(feed: Feed, seen: number): Promise<boolean> {
    return seen >= feed.end.sequence || (await feed.pending()) === 0;
  }

  async #place(feed: Feed): Promise<Place> {
    const start = this.#options.from === "now" ? feed.end : { sequence: 0, time: undefined };
    return await placeIn(this.#db, this.id, feed.source, start);
  }

  /** Publishes messages, and stores the place in the same transaction. Gives the new one. */
  async #take(
    feed: Feed,
    messages: readonly JsMsg[],
    place: Place,
    signal: AbortSignal,
  ): Promise<{ readonly place: Place; readonly taken: Taken }> {
    const fresh: InboxMessage[] = [];
    let upto = place;
    for (const message of messages.map(messageIn)) {
      if (isTaken(message, upto)) continue; // delivered again, perhaps twice in this batch
      if (message.sequence <= upto.sequence) this.#tellLost(message, upto);
      upto = behind(message, upto);
      fresh.push(message);
    }
    const made: Made[] = [];
    for (const message of fresh) made.push(await this.#make(message, signal));
    let taken = nothingTaken;
    if (fresh.length > 0) {
      const done = await publishBatch(this.#db, {
        inbox: this.id,
        source: feed.source,
        place,
        upto,
        pending: messages.at(-1)?.info.pending ?? null,
        dedupe: this.#dedupe,
        made,
      });
      taken = done.taken;
      for (const one of done.dead) this.#tellDead(one);
      this.#call("onTaken", () => this.#options.onTaken?.(taken));
    }
    await feed.acknowledge(messages);
    return { place: upto, taken };
  }

  async #make(message: InboxMessage, signal: AbortSignal): Promise<Made> {
    const { map, takeOwn = false } = this.#options;
    if (!takeOwn && message.headers["Hark-Install"] === this.#install) {
      return { message, items: [], isOwn: true };
    }
    for (let attempt = 1;; attempt++) {
      try {
        const items = map === undefined
          ? [itemOf(message, this.#dedupe)]
          : itemsOf(await map(message), message, this.#dedupe);
        return { message, items };
      } catch (error) {
        const isFinal = map === undefined || attempt >= this.#maxAttempts ||
          (error as { name?: unknown } | undefined)?.name === "DeadLetter";
        if (isFinal) return { message, items: [], reason: messageOf(error) };
        logger.warn("{inbox}: message {sequence} failed at attempt {attempt}: {reason}", {
          inbox: this.id,
          sequence: message.sequence,
          attempt,
          reason: messageOf(error),
        });
        await pause(Math.min(waits[0] * 2 ** attempt, waits[1]), signal);
      }
    }
  }

  #tellLost({ sequence }: InboxMessage, place: Place): void {
    logger.warn(
      "{inbox}: message {sequence} is new, and messages up to {place} were taken: the stream has lost its last ones. {remedy}",
      {
        inbox: this.id,
        sequence,
        place: place.sequence,
        remedy:
          'Give it file storage and 3 replicas, or set "sync_interval: always" in the server\'s jetstream block.',
      },
    );
  }

  #tellDead({ message, reason }: Bad): void {
    const word = shellWord(this.id);
    logger.error(
      "{inbox}: message {sequence} on {subject} became a dead letter: {reason}. {remedy}",
      {
        inbox: this.id,
        sequence: message.sequence,
        subject: message.subject,
        reason,
        remedy:
          `After the repair: redrive(), or hark inbox ${word} --redrive. To give it up, see its number: ` +
          `hark inbox ${word} --dead.`,
      },
    );
    this.#call("onDeadLetter", () => this.#options.onDeadLetter?.(message, reason));
  }

  #call(hook: string, call: () => unknown): void {
    void (async () => await call())().catch((error) =>
      logger.error("{inbox}: the hook {hook} failed: {reason}", {
        inbox: this.id,
        hook,
        reason: messageOf(error),
        error,
      })
    );
  }
}

/**
 * Makes an inbox: it publishes the messages of a stream as notifications, in the order of the stream.
 * How far it is, is stored in the transaction that publishes, so each message is published once,
 * however often the stream delivers it.
 *
 * @param db What `connect()` gives. The role needs `hark.grant_publish` and `hark.grant_consume`.
 * @throws {HarkError} `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { inbox } from "@hark/postgres/inbox";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await inbox(db, {
 *   id: "payments-in",
 *   stream: "PAYMENTS",
 *   map: (message) => ({ channel: "payments", payload: message.json(), key: message.subject }),
 * }).run();
 * ```
 */
export function inbox(db: Database, options: InboxOptions): Inbox {
  return new Inbox(db, options);
}
