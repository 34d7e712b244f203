/**
 * What a worker is told, and what it leaves to the next one of the same run.
 *
 * @module
 */

import type { Bell } from "../database/bell.ts";
import type { Listener } from "../database/listener.ts";
import type { Notification } from "./notification.ts";
import type { PageLimits } from "./page.ts";
import type { Claimant } from "./partition.ts";

/** What a worker needs to know; all checked before. Durations are milliseconds. */
export interface WorkerOptions {
  readonly claimant: Claimant;
  readonly limits: PageLimits;
  readonly pollInterval: number;
  /** An acknowledgement is sent at the latest after so many notifications … */
  readonly acknowledgeCount: number;
  /** … or so long after the last. */
  readonly acknowledgeInterval: number;
  readonly retryInitial: number;
  readonly retryMaximum: number;
  readonly random: () => number;
  readonly handle: (notification: Notification, signal: AbortSignal) => unknown;
  readonly onError: ((error: unknown, notification: Notification) => unknown) | undefined;
}

/** What outlives a session: several sessions may serve one run of a consumer. */
export interface Run {
  /** Aborts when no further notification is to be begun. */
  readonly stopping: AbortSignal;
  /** Aborts when the handler in hand is to give up too. */
  readonly abandon: AbortSignal;
  readonly bell: Bell;
  readonly listener: Listener | undefined;
  /** Return once all that was committed when the run started is handled. */
  readonly drain: boolean;
  /** What was visible when the run started: that is replay. */
  started: string | undefined;
  /** Notifications handled. */
  handled: number;
  /** Handled here but not known to be stored: not to be handled again by the next claim. */
  readonly pending: { epoch: number; incarnation: string; readonly ids: Set<number> };
  /** Whether to begin nothing any more, only to store what is handled. */
  readonly finishing: boolean;
  /** When a waymark was last asked for, and at which id. */
  waymark: { at: number; handled: number };
}
