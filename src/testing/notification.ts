/**
 * Notifications that no database has published, for unit tests.
 *
 * @module
 */

import { knownOptions } from "../check.ts";
import { Notification } from "../consume/notification.ts";
import { headersText, keyText, payloadText } from "../publish/payload.ts";

/** What a handler is told besides the payload. */
export interface NotificationFacts {
  /** The channel. @default {"test"} */
  readonly channel?: string;
  /** As `notify` takes it. Without it: no key. */
  readonly key?: string | number | bigint | null;
  /** An object that JSON can hold. Without it: no headers. */
  readonly headers?: Readonly<Record<string, unknown>> | null;
  /** The id. @default {1} */
  readonly id?: number;
  /** The number of the attempt. @default {1} */
  readonly attempt?: number;
  /** When it was published. Without it: now. */
  readonly createdAt?: Date;
  /** Whether it is a replay. @default {false} */
  readonly isReplay?: boolean;
}

/**
 * Makes a notification as a handler receives it, without a database. The payload takes the way of a
 * real one, through JSON: a Date arrives as text.
 *
 * @throws {HarkError} `BAD_PAYLOAD` for what `notify` would refuse; `BAD_OPTION`.
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { handlerContext, notification } from "@hark/postgres/testing";
 * import type { Handler } from "@hark/postgres";
 *
 * const sent: string[] = [];
 * const greet: Handler<{ name: string }> = ({ payload }) => void sent.push(`Hello ${payload.name}`);
 *
 * greet(notification({ name: "Ada" }, { key: "user-7" }), handlerContext());
 * assert.deepEqual(sent, ["Hello Ada"]);
 * ```
 */
export function notification<Payload>(
  payload: Payload,
  facts: NotificationFacts = {},
): Notification<Payload> {
  knownOptions("notification", facts, [
    "channel",
    "key",
    "headers",
    "id",
    "attempt",
    "createdAt",
    "isReplay",
  ]);
  return new Notification<Payload>({
    id: facts.id ?? 1,
    channel: facts.channel ?? "test",
    key: keyText(facts.key),
    payload: payloadText(payload),
    headers: headersText(facts.headers),
    createdAt: (facts.createdAt ?? new Date()).getTime(),
    isReplay: facts.isReplay ?? false,
  }, facts.attempt ?? 1);
}
