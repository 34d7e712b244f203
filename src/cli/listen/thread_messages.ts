/**
 * The messages between `hark listen` and its threads.
 *
 * @module
 */

import type { HarkErrorCode } from "../../errors.ts";
import type { Measurements } from "../../metrics/monitor.ts";
import type { LogOptions } from "../print/log_lines.ts";
import type { Overrides } from "./settings.ts";

/** Which consumers to run, how, and how to log. */
export interface Work extends LogOptions {
  /** Modules: files, folders, URLs; none means the sample. */
  readonly modules: readonly string[];
  /** Ids of the consumers to run. Default: all. */
  readonly consumers: readonly string[] | undefined;
  /** Ids of consumers not to run. */
  readonly excluded: readonly string[] | undefined;
  /** Ids of consumers that were removed by hand while they ran. They need not be in the modules. */
  readonly removed?: readonly string[];
  /** Channels of which a consumer has to read one. Default: any. */
  readonly channels: readonly string[] | undefined;
  /** Options that count more than the code of a consumer. */
  readonly overrides: Overrides;
  /** The longest wait between two tries to connect again, in ms. */
  readonly maxReconnectDelay: number;
  /** Whether to poll only. Otherwise the URL decides. */
  readonly noListen: boolean;
  /** Whether to measure what happens. */
  readonly measures: boolean;
}

/** The one message to the thread itself; all others go through `port`. */
export interface Hire {
  /** The thread's name in logs and in PostgreSQL: w1, w2, … */
  readonly name: string;
  /** What to run. */
  readonly work: Work;
  /** Carries orders to the thread and its reports back. Messages of modules do not come here. */
  readonly port: MessagePort;
}

/** A message to a thread. */
export type Order =
  | { readonly kind: "serve"; readonly url: string }
  | { readonly kind: "stop" }
  | { readonly kind: "ping" }
  | { readonly kind: "measure"; readonly number: number; readonly reports: boolean };

/** A consumer, as far as it can be sent to another thread. */
export interface Known {
  /** Its id. */
  readonly id: string;
  /** Its channels. */
  readonly channels: readonly string[];
}

/** A failure, as far as it can be sent to another thread. */
export interface Failure {
  /** The code, if the error is Hark's. */
  readonly code: HarkErrorCode | undefined;
  /** What happened, for people. */
  readonly sentence: string;
  /** Whether it may be over at the next start. */
  readonly passing: boolean;
}

/** A message from a thread. */
export type Report =
  /** Its modules are loaded; it waits for a database. */
  | { readonly kind: "found"; readonly consumers: readonly Known[] }
  /**
   * It fails; "ended" follows after its other consumers have stopped in order. With `removed`, that
   * consumer was removed by hand, and the others go on.
   */
  | {
    readonly kind: "failed";
    readonly failure: Failure;
    readonly removed: string | undefined;
  }
  /** Its consumers have stopped and its connections are closed. */
  | { readonly kind: "ended" }
  /** A handler has called Deno.exit or close. */
  | { readonly kind: "exit"; readonly call: string }
  | { readonly kind: "pong" }
  | {
    readonly kind: "measured";
    readonly number: number;
    readonly measurements: Measurements;
  };
