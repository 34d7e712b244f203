/**
 * One connection on which messages are published, and their acknowledgements.
 *
 * @module
 */

import {
  createInbox,
  InvalidArgumentError,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
} from "@nats-io/nats-core";
import { type JetStreamManager, jetstreamManager, type PubAck } from "@nats-io/jetstream";
import { messageOf } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { Busy, Lost, type Receipt } from "../sink.ts";
import type { NatsOptions } from "./nats_options.ts";
import { connectNats } from "./server.ts";
import { noRight } from "./stream.ts";

/** How long no acknowledgement may come before the connection counts as lost, in milliseconds. */
const ackTime = 10_000;
/** How long a question about a stream may take, in milliseconds. */
const apiTime = 5_000;

interface Waiting {
  readonly subject: string;
  readonly base: number;
  readonly sentAt: number;
  readonly resolve: (receipt: Receipt) => void;
  readonly reject: (error: unknown) => void;
}

/** A connection that is used until it fails, and never again. */
export class Line implements AsyncDisposable {
  readonly number: number;
  readonly manager: JetStreamManager;
  /** The most bytes of a message, with its headers. */
  readonly maxPayload: number;
  readonly #nc: NatsConnection;
  readonly #inbox: string;
  readonly #pending = new Map<string, Waiting>();
  readonly #timer: ReturnType<typeof setInterval>;
  #next = 0;
  /** The latest message that was answered. */
  #latest = -1;
  #answeredAt = performance.now();
  #lost: Lost | undefined;
  /** The lowest place behind which something may be that was under way when the connection was lost. */
  base = Infinity;
  /** The highest place that was acknowledged or seen. */
  end: number;

  private constructor(
    nc: NatsConnection,
    manager: JetStreamManager,
    options: NatsOptions,
    n: number,
    end: number,
  ) {
    this.#nc = nc;
    this.manager = manager;
    this.maxPayload = nc.info!.max_payload; // a closed connection has no info any more
    this.number = n;
    this.end = end;
    this.#inbox = createInbox(options.inboxPrefix);
    nc.subscribe(`${this.#inbox}.*`, { callback: (_, message) => this.#answered(message) });
    this.#timer = setInterval(() => this.#look(), 1_000);
    void this.#watch();
    void nc.closed().then((error) =>
      this.lose(error instanceof Error ? messageOf(error) : "the connection was closed")
    );
  }

  /** Connects. @throws {HarkError} `UNREACHABLE`, `NO_PERMISSION`. */
  static async open(options: NatsOptions, name: string, n: number, end: number): Promise<Line> {
    const nc = await connectNats(options, name);
    const { domain } = options;
    const manager = await jetstreamManager(nc, {
      checkAPI: false,
      timeout: apiTime,
      ...(domain === undefined ? {} : { domain }),
    });
    return new Line(nc, manager, options, n, end);
  }

  /** The connection, for consumers of streams. */
  get connection(): NatsConnection {
    return this.#nc;
  }

  /** Whether nothing can be sent any more. */
  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** Whether anything that was sent was answered. */
  get hasAnswered(): boolean {
    return this.#latest >= 0;
  }

  /** Publishes. See {@linkcode OpenSink.publish} for the errors. */
  publish(subject: string, body: Uint8Array, headers: MsgHdrs): Promise<Receipt> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    const { promise, resolve, reject } = Promise.withResolvers<Receipt>();
    const token = String(this.#next++);
    this.#pending.set(token, {
      subject,
      base: this.end,
      sentAt: performance.now(),
      resolve,
      reject,
    });
    try {
      this.#nc.publish(subject, body, { headers, reply: `${this.#inbox}.${token}` });
    } catch (error) {
      if (error instanceof InvalidArgumentError) {
        // Nothing was sent, and the next message may fit.
        this.#pending.delete(token);
        reject(refused(error, subject));
        // Such as a connection that was closed a moment ago. All under way share its fate.
      } else this.lose(messageOf(error));
    }
    return promise;
  }

  #answered(message: Msg): void {
    const token = message.subject.slice(this.#inbox.length + 1);
    const waiting = this.#pending.get(token);
    if (waiting === undefined) return;
    this.#pending.delete(token);
    this.#latest = Math.max(this.#latest, Number(token));
    this.#answeredAt = performance.now();
    if (message.headers?.code === 503) {
      return waiting.reject(new Busy(`no stream answered for ${waiting.subject}`));
    }
    let answer: PubAck & { error?: { err_code: number; description: string } };
    try {
      answer = message.json();
    } catch (cause) {
      return waiting.reject(
        new HarkError("DESTINATION", `what answered on ${waiting.subject} is no stream`, {
          cause,
          remedy: "See to it that nothing else replies to messages on this subject.",
        }),
      );
    }
    if (answer.error !== undefined) return waiting.reject(refusal(answer.error, waiting.subject));
    this.end = Math.max(this.end, answer.seq);
    waiting.resolve({ place: answer.seq, duplicate: answer.duplicate === true });
  }

  /** Gives up what is under way: it is not known whether it was stored. */
  lose(reason: string): void {
    if (this.#lost !== undefined) return;
    this.#lost = new Lost(`the connection to NATS is lost: ${reason}`, this.number);
    clearInterval(this.#timer);
    for (const { base, reject } of this.#pending.values()) {
      this.base = Math.min(this.base, base);
      reject(this.#lost);
    }
    this.base = Math.min(this.base, this.end);
    this.#pending.clear();
    // Not awaited: a silent server would never answer.
    void this.#nc.close().catch(() => {});
  }

  #look(): void {
    const [first] = this.#pending;
    if (first === undefined) return;
    const [token, oldest] = first;
    const now = performance.now();
    const since = Math.max(oldest.sentAt, this.#answeredAt);
    // A stream answers in order. If later ones are answered all the time, the answer to this is lost.
    const isOvertaken = Number(token) < this.#latest && now - oldest.sentAt > 3 * ackTime;
    if (now - since > ackTime || isOvertaken) {
      this.lose(`no acknowledgement came in ${Math.round((now - oldest.sentAt) / 1000)} s`);
    }
  }

  /** Rejects what the server does not let this user publish. */
  async #watch(): Promise<void> {
    for await (const status of this.#nc.status()) {
      if (status.type !== "error") continue;
      const { operation, subject } = status.error as { operation?: string; subject?: string };
      if (operation === "subscription") {
        this.lose(`the NATS user may not subscribe to ${subject}`);
      }
      if (operation !== "publish") continue;
      for (const [token, waiting] of this.#pending) {
        if (waiting.subject !== subject) continue;
        this.#pending.delete(token);
        waiting.reject(noRight(subject, status.error));
      }
    }
  }

  /** Closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.lose("it is closed");
    await Promise.resolve();
  }
}

function refused(cause: Error, subject: string): HarkError {
  const message = `the client of NATS refuses a message on ${subject}: ${messageOf(cause)}`;
  return new HarkError("DESTINATION", message, {
    cause,
    remedy: "Make the payload or the headers smaller, or raise max_payload of the server.",
  });
}

/** What a stream's refusal means. */
function refusal(error: { err_code: number; description: string }, subject: string): Error {
  if (error.err_code === 10060) {
    return new HarkError("DESTINATION", `${subject} belongs to another stream than the relay's`, {
      remedy: "Change the option subject, or the subjects of the streams.",
    });
  }
  if (error.err_code === 10054) {
    return new HarkError(
      "DESTINATION",
      `the stream refused a message on ${subject}: ${error.description}`,
      {
        remedy: "Raise max_msg_size of the stream, or set oversized.",
      },
    );
  }
  // Full, without a leader, without space: others would be refused as well.
  return new Busy(`the stream refuses messages for now: ${error.description} (${error.err_code})`);
}
