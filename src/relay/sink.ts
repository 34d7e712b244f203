/**
 * What a relay publishes to.
 *
 * @module
 */

import type { Notification } from "../consume/notification.ts";
import type { Queryable } from "../database/queryable.ts";

/** A notification on its way out. */
export interface RelayMessage {
  /**
   * The id by which the target can tell repeats: `hark:INSTALL:ID`. `INSTALL` is the UUID of the
   * schema's install, and `ID` is the number of the notification in the log. A stream gets it with `:RELAY` behind it: its other
   * relays publish messages of their own.
   */
  readonly id: string;
  /** The UUID of the schema's install. */
  readonly install: string;
  /** The notification. */
  readonly notification: Notification;
}

/** What a target said when it had stored a message. */
export interface Receipt {
  /** The place of the message in the target: a number that rises with each message. */
  readonly place: number;
  /** Whether the target had the message already. */
  readonly duplicate: boolean;
}

/** What a relay tells a sink when it opens it. */
export interface SinkSetting {
  /** The id of the relay. */
  readonly relay: string;
  /** The relay's own database. */
  readonly db: Queryable;
  /** Called with trouble that passes by itself, and with `undefined` when it is over. */
  readonly trouble: (reason: string | undefined) => void;
  /** Aborts when the relay has ended, and if it is stopped while it opens the target. */
  readonly signal: AbortSignal;
}

/** A target to which a relay can publish. `jetStream()` makes one. */
export interface Sink {
  /** What kind of target it is, in a word. */
  readonly kind: string;
  /**
   * Whether it stands for many parties, of which some may hang or fail. Then a slow message holds up its
   * key alone. Such a target tells repeats by itself: the relay does not look into it, and `publish` throws
   * neither {@linkcode Lost} nor {@linkcode Busy}.
   *
   * @default {false}
   */
  readonly isolated?: boolean;
  /**
   * Connects, and looks whether the target can take what is to come.
   *
   * @throws {HarkError} If it cannot: with the reason, and with what to do.
   */
  open(setting: SinkSetting): Promise<OpenSink>;
}

/** What a target has behind a place. */
export interface Look {
  /** The ids of the messages. */
  readonly ids: ReadonlySet<string>;
  /** The last place that was looked at: nothing up to it is missing in `ids`. */
  readonly end: number;
}

/** A target while a relay publishes to it. */
export interface OpenSink extends AsyncDisposable {
  /** Which target, and which incarnation of it: another one that has its name is another target. */
  readonly target: string;
  /** What may lose messages or hold them up, one sentence each. */
  readonly warnings: readonly string[];
  /** The highest place that is known. */
  readonly end: number;
  /**
   * Publishes a message. Resolves when the target has stored it. The relay has at most one message
   * of a key under way.
   *
   * @param signal Aborts if the result counts no longer.
   * @throws {Lost} If it is not known whether the target has stored it.
   * @throws {Busy} If the target has not stored it, and cannot store others either for now.
   * @throws Any other error if the target refuses this message.
   */
  publish(message: RelayMessage, signal: AbortSignal): Promise<Receipt>;
  /**
   * Looks whether the target can take a channel at all, as far as that can be told without a
   * notification. For a look before the relay begins.
   *
   * @throws {HarkError} If it would refuse each notification of the channel: with the reason.
   */
  requireChannel?(channel: string): void;
  /**
   * Where a message would go, in words, for a dry run.
   *
   * @throws If it would be refused.
   */
  describe(message: RelayMessage, signal: AbortSignal): string | Promise<string>;
  /**
   * Waits until the target answers again after a {@linkcode Lost}, and gives the ids of what it has
   * stored behind the place at which the first message was lost.
   */
  recover(lost: Lost): Promise<ReadonlySet<string>>;
  /** What was published behind a place, up to the target's end when the call is made or later. */
  publishedBehind(place: number): Promise<Look>;
}

/** It is not known whether the target has stored a message. */
export class Lost extends Error {
  /** The connection that was lost: it rises with each. */
  readonly connection: number;

  /** Creates the error. */
  constructor(message: string, connection: number, options: ErrorOptions = {}) {
    super(message, options);
    this.name = "Lost";
    this.connection = connection;
  }
}

/** The target has not stored a message, and cannot store others either for now. */
export class Busy extends Error {
  /** Creates the error. */
  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.name = "Busy";
  }
}
