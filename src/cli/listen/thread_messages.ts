/**
 * What `hark listen` and its threads say to each other.
 *
 * @module
 */

import type { HarkErrorCode } from "../../errors.ts";
import type { LogOptions } from "../log.ts";

/** Which consumers to run, and how to log. */
export interface Work extends LogOptions {
  /** Modules: files, folders, URLs; none means the sample. */
  readonly modules: readonly string[];
  /** Ids of those to run; all unless given. */
  readonly consumers: readonly string[] | undefined;
  /** Ids of those not to run. */
  readonly excluded: readonly string[] | undefined;
}

/** The one message that comes to a thread itself; all others go through `port`. */
export interface Hire {
  /** Its name in logs and to PostgreSQL: w1, w2, … */
  readonly name: string;
  /** What it is to run. */
  readonly work: Work;
  /** Carries orders to it and reports from it; a module's own messages do not come here. */
  readonly port: MessagePort;
}

/** What a thread is told. */
export type Order =
  | { readonly kind: "serve"; readonly url: string }
  | { readonly kind: "stop" }
  | { readonly kind: "ping" };

/** A consumer as far as it can be told to another thread. */
export interface Known {
  /** Its id. */
  readonly id: string;
  /** Its channels. */
  readonly channels: readonly string[];
}

/** A failure as far as it can be told to another thread. */
export interface Failure {
  /** The code, where the error is Hark's. */
  readonly code: HarkErrorCode | undefined;
  /** What happened, for people. */
  readonly sentence: string;
  /** Whether it may be over by the next start. */
  readonly passing: boolean;
}

/** What a thread tells. */
export type Report =
  /** Its modules are loaded; it waits for a database. */
  | { readonly kind: "found"; readonly consumers: readonly Known[] }
  /** It fails; "ended" follows once the rest has stopped in order. */
  | { readonly kind: "failed"; readonly failure: Failure }
  /** Nothing runs any more, all connections are closed. */
  | { readonly kind: "ended" }
  /** A handler has called Deno.exit or close. */
  | { readonly kind: "exit"; readonly call: string }
  | { readonly kind: "pong" };
