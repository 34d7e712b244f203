/**
 * Messages of a stream behind a place, in order.
 *
 * @module
 */

import {
  AckPolicy,
  type ConsumerMessages,
  jetstream,
  type JetStreamManager,
  jetstreamManager,
  type JsMsg,
  RetentionPolicy,
  type StreamInfo,
} from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/nats-core";
import { messageOf } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import type { NatsOptions } from "../relay/jetstream/nats_options.ts";
import { pause } from "../relay/delivery.ts";
import { connectNats } from "../relay/jetstream/server.ts";
import { streamInfo, targetOf } from "../relay/jetstream/stream.ts";
import { Lost } from "../relay/sink.ts";
import { token } from "../relay/subject.ts";
import type { Place } from "./place.ts";
import { startConsumer } from "./start.ts";

/** How long the stream waits for an acknowledgement before it delivers a message again, in ns. */
const ackWait = 60e9;
/** How long a second acknowledgement may take, in milliseconds. */
const confirmTime = 5_000;

/** How long the server may be silent until the connection counts as lost: two of these, in milliseconds. */
const heartbeat = 5_000;
/** How long closing a connection is waited for, in milliseconds. A silent server does not answer. */
const closeTime = 1_000;

/** How long another inbox takes to make the consumer anew once it has removed it, in milliseconds. */
const takeOverTime = 300;

/** The most bytes of a transaction, unless one message has more. */
const mostBytes = 16 * 1024 * 1024;
/** About how many bytes are asked for ahead. */
const bytesAhead = 4 * mostBytes;

/** What a feed is of. */
export interface FeedSetting {
  readonly inbox: string;
  readonly server: NatsOptions;
  readonly stream: string;
  readonly subject: string | undefined;
  readonly batchSize: number;
}

/** A connection from which messages come, until it fails. */
export class Feed implements AsyncDisposable {
  readonly #nc: NatsConnection;
  readonly #manager: JetStreamManager;
  readonly #setting: FeedSetting;
  readonly #info: StreamInfo;
  readonly #ready: JsMsg[] = [];
  /** Tells the consumer that this feed has made from that of another one. */
  readonly #mark = crypto.randomUUID();
  /** How many messages the stream's consumer has delivered, and how many came. */
  #delivered = 0;
  readonly #over = new AbortController();
  #news = Promise.withResolvers<void>();
  #messages: ConsumerMessages | undefined;
  #failure: Lost | HarkError | undefined;

  private constructor(
    nc: NatsConnection,
    manager: JetStreamManager,
    setting: FeedSetting,
    info: StreamInfo,
  ) {
    this.#nc = nc;
    this.#manager = manager;
    this.#setting = setting;
    this.#info = info;
    void nc.closed().then((error) =>
      this.#fail(error instanceof Error ? messageOf(error) : "the connection was closed")
    );
  }

  /** Connects, and looks for the stream. */
  static async open(setting: FeedSetting, isStart: boolean): Promise<Feed> {
    const { server, stream, inbox } = setting;
    const nc = await connectNats(server, `hark inbox ${inbox}`);
    try {
      const { domain } = server;
      const manager = await jetstreamManager(nc, {
        checkAPI: false,
        ...(domain === undefined ? {} : { domain }),
      });
      return new Feed(nc, manager, setting, await streamInfo(manager, stream, 0, isStart));
    } catch (error) {
      void nc.close();
      throw error;
    }
  }

  /** Which stream, and which incarnation of it. */
  get source(): string {
    return targetOf(this.#info);
  }

  /** The place behind the stream's last message. */
  get end(): Place {
    const { last_seq: sequence, last_ts } = this.#info.state;
    return { sequence, time: Math.floor(Date.parse(last_ts)) };
  }

  /** Why nothing comes any more. */
  get failure(): Lost | HarkError | undefined {
    return this.#failure;
  }

  #fail(reason: string): void {
    this.#failure ??= new Lost(`the connection to NATS is lost: ${reason}`, 0);
    this.#news.resolve();
  }

  /**
   * Begins behind a place. The durable consumer of the stream is made anew, so what comes, comes in order.
   */
  async begin(place: Place): Promise<void> {
    const { inbox, stream, subject, batchSize, server: { domain } } = this.#setting;
    const durable = `hark_${token(inbox)}`;
    const isQueue = this.#info.config.retention === RetentionPolicy.Workqueue;
    try {
      await startConsumer(
        this.#manager,
        stream,
        {
          durable_name: durable,
          description: `inbox ${inbox} of Hark, ${this.#mark}`,
          ack_policy: AckPolicy.Explicit,
          ack_wait: ackWait,
          max_deliver: -1,
          max_ack_pending: batchSize * 4,
          ...(subject === undefined ? {} : { filter_subject: subject }),
        },
        place,
        isQueue,
      );
      const consumer = await jetstream(this.#nc, domain === undefined ? {} : { domain })
        .consumers.get(stream, durable);
      this.#messages = await consumer.consume({
        max_messages: this.#ahead,
        idle_heartbeat: heartbeat,
        expires: 10_000,
        abort_on_missing_resource: true,
      });
    } catch (cause) {
      const reason = messageOf(cause);
      const { code } = cause as { code?: number };
      if (/permission/i.test(reason)) {
        throw new HarkError(
          "NO_PERMISSION",
          `the NATS user may not consume "${stream}": ${reason}`,
          {
            cause,
            remedy:
              `Allow it to publish on $JS.API.CONSUMER.>, $JS.ACK.${stream}.>, and to subscribe to its inbox.`,
          },
        );
      }
      if (code !== undefined && code >= 10_000 && code !== 10_008) {
        throw new HarkError("DESTINATION", `the stream "${stream}" refuses a consumer: ${reason}`, {
          cause,
          remedy: "Check the option subject, and other consumers of a work queue.",
        });
      }
      throw new Lost(`could not begin to read: ${reason}`, 0, { cause });
    }
    void this.#watch(this.#messages);
    void this.#pump(this.#messages);
  }

  /** How many messages are asked for ahead: fewer if the stream's messages are large. */
  get #ahead(): number {
    const { bytes, messages } = this.#info.state;
    const fitting = Math.floor(bytesAhead * messages / Math.max(1, bytes));
    return Math.max(1, Math.min(this.#setting.batchSize * 2, messages === 0 ? Infinity : fitting));
  }

  /** A silent server may never close its connection. */
  async #watch(messages: ConsumerMessages): Promise<void> {
    for await (const { type } of messages.status()) {
      if (type === "heartbeats_missed") this.#fail(`the server was silent for ${2 * heartbeat} ms`);
    }
  }

  async #pump(messages: ConsumerMessages): Promise<void> {
    try {
      for await (const message of messages) {
        // The place passes all that lies before a message. So none may be missing between two.
        const { deliverySequence } = message.info;
        if (deliverySequence !== ++this.#delivered) {
          return await this.#ended(
            `of the messages that the stream has delivered, number ${this.#delivered} did not arrive`,
          );
        }
        this.#ready.push(message);
        this.#news.resolve();
      }
      await this.#ended("the stream's consumer was removed");
    } catch (error) {
      await this.#ended(messageOf(error));
    }
  }

  /** The consumer is gone or shared: another inbox of this name has made it anew, or it was removed. */
  async #ended(reason: string): Promise<void> {
    if (this.#failure !== undefined || this.#nc.isClosed()) return;
    try {
      await pause(takeOverTime, this.#over.signal);
    } catch {
      return; // it is closed, so it does not matter any more
    }
    const { stream, inbox } = this.#setting;
    // A request of this inbox that was long on its way may also have made it anew.
    const isOther = await this.#manager.consumers.info(stream, `hark_${token(inbox)}`)
      .then(({ config }) => !config.description?.endsWith(this.#mark), () => false);
    if (isOther && this.#failure === undefined) {
      this.#failure = new HarkError("CONFLICT", `another process serves inbox "${inbox}"`, {
        remedy: "Run each inbox once, or give this one an id of its own.",
      });
    }
    this.#fail(reason);
  }

  /** Waits for messages, and gives what is there. Empty if the feed has failed or the signal aborts. */
  async next(signal: AbortSignal): Promise<JsMsg[]> {
    const wake = () => this.#news.resolve();
    signal.addEventListener("abort", wake, { once: true });
    try {
      while (this.#ready.length === 0 && this.#failure === undefined && !signal.aborted) {
        this.#news = Promise.withResolvers<void>();
        await this.#news.promise;
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
    return this.#failure === undefined ? this.#batch() : [];
  }

  /** The next messages, as many as one transaction may have. */
  #batch(): JsMsg[] {
    const most = Math.min(this.#setting.batchSize, this.#ready.length);
    let count = 0;
    for (let bytes = 0; count < most; count++) {
      bytes += this.#ready[count]!.data.length;
      if (bytes > mostBytes && count > 0) break;
    }
    return this.#ready.splice(0, count);
  }

  /** Acknowledges messages. Waits until the server has confirmed the last one. */
  async acknowledge(messages: readonly JsMsg[]): Promise<void> {
    for (const message of messages.slice(0, -1)) message.ack();
    try {
      await messages.at(-1)?.ackAck({ timeout: confirmTime });
    } catch (error) {
      // They are taken all the same. A stream that delivers them again is told once more.
      this.#fail(`an acknowledgement was not confirmed: ${messageOf(error)}`);
    }
  }

  /** How many messages of the stream are behind those that were delivered. */
  async pending(): Promise<number> {
    const { stream, inbox } = this.#setting;
    try {
      const info = await this.#manager.consumers.info(stream, `hark_${token(inbox)}`);
      return info.num_pending + info.num_ack_pending;
    } catch (cause) {
      throw new Lost(`the server did not say what is left: ${messageOf(cause)}`, 0, { cause });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail("it is closed");
    this.#over.abort();
    this.#messages?.stop();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, closeTime));
    await Promise.race([this.#nc.close(), late]).finally(() => clearTimeout(timer));
  }
}
