/**
 * What is made of a notification for the clients of a stream.
 *
 * @module
 */

import { stored } from "../channels/decode.ts";
import type { Definition } from "../channels/kind.ts";
import { Notification, setProblem } from "../consume/notification.ts";
import type { PageRow } from "../consume/read/page.ts";
import { messageOf } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import { jsonText } from "../publish/json.ts";
import type { StreamsOptions } from "./options.ts";

const logger = getLogger(["hark", "streams"]);

/** A step of the log: a notification, or the end of a window. */
export interface Item {
  /** Where a client is that has taken it. */
  readonly position: string;
  /** Undefined at the end of a window. */
  readonly row: PageRow | undefined;
  /** What has been made of it, for all clients that are sent the same. */
  made?: Made;
}

/** A notification, read once for all clients of its channel. */
export class Made {
  readonly position: string;
  readonly notification: Notification;
  /** The channel's definition by which it was decoded. Undefined if the channel has no type. */
  readonly by: Definition | undefined;
  /** Resolves when it is decoded. Undefined if it is already. */
  ready: Promise<void> | undefined;
  /** The message as JSON text. Undefined if there is none. */
  text: string | undefined;
  /** The event for an `EventSource`, once a client was sent it. */
  event: Uint8Array | undefined;
  #written = false;
  #failed = false;
  #json = "";

  private constructor({ position, row }: Item, by: Definition | undefined) {
    this.position = position;
    this.notification = new Notification(row!);
    this.by = by;
    if (this.notification.problem !== undefined) this.#leaveOut();
    else if (by !== undefined) this.#decode(by);
    else this.#json = this.notification.payloadText;
  }

  /** What was made of an item. A client whose channel has another definition gets its own. */
  static of(item: Item, by: Definition | undefined): Made {
    return item.made?.by === by && item.made !== undefined
      ? item.made
      : item.made = new Made(item, by);
  }

  /** Writes the message, once. Returns whether there is one. */
  write(message: StreamsOptions["message"]): boolean {
    if (!this.#written) {
      this.text = message === undefined ? this.#json : textOf(message(this.notification));
      this.#written = true;
    }
    return this.text !== undefined;
  }

  /** It cannot be sent. That is logged once, however many clients would have been sent it. */
  fail(error: unknown): void {
    if (this.#failed) return;
    this.#failed = true;
    logger.error("{notification} is left out of a stream: {reason}", {
      notification: String(this.notification),
      reason: messageOf(error),
      error,
    });
  }

  #decode(by: Definition): void {
    try {
      const json = stored(by, this.notification);
      if (!(json instanceof Promise)) return void (this.#json = json);
      this.ready = json.then((text) => void (this.#json = text), (error) => this.#refuse(error));
    } catch (error) {
      this.#refuse(error);
    }
  }

  /** As a subscription does: the notification says why it cannot be read. */
  #refuse(error: unknown): void {
    setProblem(this.notification, messageOf(error));
    this.#leaveOut();
  }

  #leaveOut(): void {
    logger.warn("{notification} cannot be read, and is left out: {problem}", {
      notification: String(this.notification),
      problem: this.notification.problem,
    });
  }
}

function textOf(message: unknown): string | undefined {
  return message === undefined ? undefined : jsonText(atOnce("message", message), "message", false);
}

/** What an option of streams has returned. Nothing waits for a promise, which would pass for true. */
export function atOnce<Answer>(option: string, answer: Answer): Answer {
  if (typeof (answer as Partial<Promise<unknown>> | undefined | null)?.then !== "function") {
    return answer;
  }
  Promise.resolve(answer).catch(() => {}); // its failure would end the process
  throw new HarkError("BAD_OPTION", `${option} returned a promise`, {
    remedy: "It is called for each notification, and must answer at once.",
  });
}
