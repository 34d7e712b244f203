/**
 * What is enqueued, as a notification: its options become headers.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import { aYear, requiredMs } from "../duration.ts";
import type { NotifyOptions } from "../publish/options.ts";

/** A part of a key, as `Deno.KvKeyPart` has it. A symbol is refused. */
export type QueueKeyPart = string | number | bigint | boolean | Uint8Array | symbol;

/** A key, as `Deno.KvKey` has it. */
export type QueueKey = readonly QueueKeyPart[];

/** Options of enqueuing, as `Deno.Kv.enqueue` has them. */
export interface EnqueueOptions {
  /** How long to wait before the value is delivered, in milliseconds: 0 to ten years. @default {0} */
  readonly delay?: number;
  /**
   * The keys under which the value can be read, with `get`, if it is not delivered after all attempts.
   * At most 10.
   */
  readonly keysIfUndelivered?: readonly QueueKey[];
  /**
   * How long to wait before each further attempt, in milliseconds, each 0 to 366 days. Its length is
   * the number of further attempts, at most 100.
   *
   * @default {[100, 1000, 5000, 30000, 60000]}
   */
  readonly backoffSchedule?: readonly number[];
}

/** The waits if none are given: those of Deno KV. */
const usualBackoff: readonly number[] = [100, 1000, 5000, 30_000, 60_000];

const backoffHeader = "queue-backoff";
const keysHeader = "queue-keys";

const mostKeys = 10;
const mostAttempts = 100;

/** The options of the notification. */
export function notifyOptions(options: EnqueueOptions): NotifyOptions {
  knownOptions("enqueue", options, ["delay", "keysIfUndelivered", "backoffSchedule"]);
  const { delay = 0, keysIfUndelivered: keys, backoffSchedule: backoff } = options;
  if (typeof delay !== "number" || !(delay >= 0)) {
    bad("delay", delay, "Give milliseconds, 0 or more.");
  }
  if (keys !== undefined && (!Array.isArray(keys) || keys.length > mostKeys)) {
    bad("keysIfUndelivered", keys, `Give an array of at most ${mostKeys} keys.`);
  }
  if (backoff !== undefined && (!Array.isArray(backoff) || backoff.length > mostAttempts)) {
    bad("backoffSchedule", backoff, `Give an array of at most ${mostAttempts} milliseconds.`);
  }
  const bounds = { least: 0, most: aYear, fractions: true };
  const waits = backoff?.map((wait, i) => requiredMs(`backoffSchedule[${i}]`, wait, bounds));
  return {
    ...delay === 0 ? {} : { delay },
    headers: {
      ...keys === undefined ? {} : { [keysHeader]: keys.map(keyText) },
      ...waits === undefined ? {} : { [backoffHeader]: waits },
    },
  };
}

/** A key as text. Keys are equal if their texts are. */
export function keyText(key: QueueKey): string {
  if (!Array.isArray(key) || key.length === 0) {
    bad("the key", key, 'Give an array of at least one part, such as ["failed", 42].');
  }
  return JSON.stringify(key.map((part: unknown) => {
    switch (typeof part) {
      case "string":
      case "boolean":
        return part;
      case "number":
        if (!Number.isFinite(part)) bad("a part of the key", part, "Give a number.");
        return part;
      case "bigint":
        return { bigint: String(part) };
    }
    if (part instanceof Uint8Array) return { bytes: [...part] };
    return bad("a part of the key", part, "Give text, a number, a bigint, true, false or bytes.");
  }));
}

type Headers = Readonly<Record<string, unknown>>;

/** Whether a notification is to be found under a key. */
export function hasKey(headers: Headers, key: string): boolean {
  const keys = headers[keysHeader];
  return Array.isArray(keys) && keys.includes(key);
}

/** How long to wait after a failed attempt, in milliseconds, or that there is no further one. */
export function nextAttempt(attempt: number, headers: Headers): number | "dead" {
  const given = headers[backoffHeader];
  // One that was published by other means has no schedule, or any.
  const backoff = Array.isArray(given) && given.every((wait) => typeof wait === "number")
    ? given as number[]
    : usualBackoff;
  return backoff[attempt - 1] ?? "dead";
}
