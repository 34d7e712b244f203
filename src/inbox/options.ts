/**
 * The options of an inbox, and the messages that it takes.
 *
 * @module
 */

import type { NewNotification } from "../publish/notify.ts";
import type { Duration } from "../duration.ts";
import type { Taken } from "./taken.ts";
import type { NatsOptions } from "../relay/jetstream/nats_options.ts";

/** A message of a stream. */
export interface InboxMessage {
  /** The subject it was published on. */
  readonly subject: string;
  /** Its number in the stream. */
  readonly sequence: number;
  /** When the stream stored it. */
  readonly time: Date;
  /** Its headers: of a name with several values, the first. */
  readonly headers: Readonly<Record<string, string>>;
  /** Its body. */
  readonly body: Uint8Array;
  /**
   * Its body as text.
   *
   * @throws {TypeError} If it is no UTF-8.
   */
  text(): string;
  /**
   * Its body as JSON.
   *
   * @throws {SyntaxError} If it is none.
   */
  json(): unknown;
}

/** What {@linkcode InboxOptions.map} makes of a message: a notification, or several, or none. */
export type Mapped = NewNotification | readonly NewNotification[] | undefined;

/** Options of {@linkcode inbox}. */
export interface InboxOptions extends NatsOptions {
  /** The name under which the database keeps how far the inbox is, 1 to 200 characters. */
  readonly id: string;
  /** The name of the stream. It must exist. */
  readonly stream: string;
  /**
   * Which subjects of the stream to take, such as `"shop.orders.>"`.
   *
   * @default {all}
   */
  readonly subject?: string;
  /**
   * Where a new inbox begins: with the first message of the stream, or behind its last one. One that has
   * read another stream, or this one before it was made anew, begins with the first message.
   *
   * @default {"beginning"}
   */
  readonly from?: "beginning" | "now";
  /**
   * Makes the notifications of a message, or none. If it throws, it is called again, and after
   * `maxAttempts` the message is a dead letter. By default a message of a relay becomes what it was. Of
   * any other, the subject is the channel and the key, and the body is the payload, as JSON.
   */
  map?(message: InboxMessage): Mapped | Promise<Mapped>;
  /**
   * Also drop a message whose `Nats-Msg-Id` came within this time on the channel. Without it, a message
   * is told by its number in the stream, and that for ever.
   *
   * @default {none}
   */
  readonly dedupe?: Duration;
  /**
   * Whether to take messages that a relay of this same install has published. They are left out by
   * default, as a relay and an inbox could otherwise go in a circle.
   *
   * @default {false}
   */
  readonly takeOwn?: boolean;
  /**
   * The most messages in a transaction, 1 to 10000.
   *
   * @default {500}
   */
  readonly batchSize?: number;
  /**
   * How often `map` is tried for a message, 1 to 1000. Then the message becomes a dead letter. Messages
   * behind it wait, so that the order holds.
   *
   * @default {5}
   */
  readonly maxAttempts?: number;
  /** Called after a transaction has committed, with what it took. An error is logged. */
  onTaken?(taken: Taken): unknown;
  /**
   * Called when a message became a dead letter. An error that it throws is logged. The number that
   * `discardMessage` takes is not `message.sequence`: see `deadMessages`.
   */
  onDeadLetter?(message: InboxMessage, reason: string): unknown;
}
