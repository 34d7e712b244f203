/**
 * A batch while its handler runs: which of its notifications have failed, and which are behind.
 *
 * @module
 */

import { show } from "../../check.ts";
import { HarkError } from "../../errors.ts";
import type { Notification } from "../notification.ts";
import type { Work } from "../state/work.ts";

/** What a batch handler has reported so far. */
export class BatchInHand {
  readonly #work: Work;
  /** For each lane (key or partition) with a failed notification, the place of the first. */
  readonly #lanes = new Map<string, number>();
  #places: Map<Notification, number> | undefined;
  /** The notifications that were reported as failed, with their errors. */
  readonly failed = new Map<Notification, unknown>();
  readonly #tooLate: (notification: Notification, error: unknown) => void;
  #isOver = false;

  /** @param tooLate Called for a notification that is reported as failed after the end. */
  constructor(work: Work, tooLate: (notification: Notification, error: unknown) => void) {
    this.#work = work;
    this.#tooLate = tooLate;
  }

  /** The handler has returned. What is reported as failed from now on is too late. */
  end(): void {
    this.#isOver = true;
  }

  /**
   * The notifications for the handler. A loop over them leaves out those behind a failed one of
   * their key. To handle such a notification would change the order, and it is delivered again
   * anyway.
   */
  get notifications(): readonly Notification[] {
    const all = [...this.#work.notifications];
    const isBehind = (at: number) => this.#isBehind(at);
    const hidden = { configurable: true, writable: true };
    return Object.defineProperties(all, {
      [Symbol.iterator]: {
        ...hidden,
        *value() {
          for (let i = 0; i < all.length; i++) if (!isBehind(i)) yield all[i];
        },
      },
      entries: {
        ...hidden,
        *value() {
          for (let i = 0; i < all.length; i++) if (!isBehind(i)) yield [i, all[i]];
        },
      },
    });
  }

  /** See {@linkcode HandlerContext.fail}. */
  readonly fail = (notification: Notification, error?: unknown): void => {
    const at = this.#placeOf("fail", notification);
    if (this.#isOver) return this.#tooLate(notification, error);
    this.failed.set(notification, error ?? new Error("failed"));
    const { lane } = this.#work.entries[at]!;
    if (lane !== undefined) this.#lanes.set(lane, Math.min(at, this.#lanes.get(lane) ?? Infinity));
  };

  /** See {@linkcode HandlerContext.isBehindFailure}. */
  readonly isBehindFailure = (notification: Notification): boolean =>
    this.#isBehind(this.#placeOf("isBehindFailure", notification));

  #isBehind(at: number): boolean {
    const { lane } = this.#work.entries[at]!;
    return this.#lanes.size > 0 && lane !== undefined && at > (this.#lanes.get(lane) ?? Infinity);
  }

  #placeOf(what: string, notification: Notification): number {
    this.#places ??= new Map(this.#work.notifications.map((one, at) => [one, at]));
    const at = this.#places.get(notification);
    if (at !== undefined) return at;
    throw new HarkError(
      "BAD_OPTION",
      `${what}() was given ${show(notification)}, which is not in this batch`,
      { remedy: "Give one of the notifications that the handler was called with." },
    );
  }
}
