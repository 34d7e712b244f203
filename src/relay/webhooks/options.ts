/**
 * The options of {@linkcode webhooks}.
 *
 * @module
 */

import { inTime } from "../../aborted.ts";
import { bad, knownOptions, wholeNumber } from "../../check.ts";
import type { Notification } from "../../consume/notification.ts";
import { aDay, type Duration, durationMs, longestTimer } from "../../duration.ts";
import { HarkError } from "../../errors.ts";
import type { WebhookOptions } from "../../handlers/webhook.ts";
import { nameOf } from "../message.ts";

/** Where a notification is posted to. */
export interface Endpoint {
  /** The name under which the database keeps its state, 1 to 200 characters, such as a tenant's id. */
  readonly name: string;
  /** The URL to post to, of `http` or `https`. */
  readonly url: string | URL;
  /** The secret that signs: `whsec_` and 24 to 64 bytes in base64. Give it or `secrets`. */
  readonly secret?: string;
  /** Several secrets, 1 to 5. Each signs, so that the receiver can change from one to another. */
  readonly secrets?: readonly string[];
  /** Headers to add, such as `authorization`. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Options of {@linkcode webhooks}. */
export interface WebhooksOptions
  extends Pick<WebhookOptions, "timeout" | "body" | "allowPrivateAddresses" | "ca"> {
  /**
   * Gives the endpoint of a notification. Undefined if it has none: then it is handled. It is called
   * for each attempt, so keep in memory what is slow to look up. See `endpointTimeout`.
   */
  readonly endpoint: (
    notification: Notification,
  ) => Endpoint | undefined | Promise<Endpoint | undefined>;
  /**
   * How long `endpoint` may take. After that the attempt has failed.
   *
   * @default {15000}
   */
  readonly endpointTimeout?: Duration;
  /**
   * The most requests to an endpoint at a time, 1 to 1000, in this process.
   *
   * @default {10}
   */
  readonly perEndpoint?: number;
  /**
   * After how long of nothing but failures an endpoint is disabled, 1 ms to 366 days. The time begins
   * anew if nothing was posted to the endpoint for a day, or for this time if that is shorter. An answer
   * of 410 disables it at once.
   *
   * @default {"5d"}
   */
  readonly disableAfter?: Duration;
}

/** The names of {@linkcode WebhooksOptions}. */
const names = [
  "endpoint",
  "endpointTimeout",
  "timeout",
  "body",
  "allowPrivateAddresses",
  "ca",
  "perEndpoint",
  "disableAfter",
];

/** The options, checked, with the durations in milliseconds. The handlers check what is theirs. */
export interface CheckedWebhooks {
  readonly options: WebhooksOptions;
  readonly endpointTimeout: number;
  readonly timeout: number;
  readonly perEndpoint: number;
  readonly disableAfter: number;
}

/**
 * Checks the options of {@linkcode webhooks}.
 *
 * @throws {HarkError} `BAD_OPTION`.
 */
export function checkedWebhooks(options: WebhooksOptions): CheckedWebhooks {
  const example = "{ endpoint: ({ key }) => ({ name: key, url, secret }) }";
  knownOptions("webhooks", options, names, example);
  const { endpoint } = options;
  if (typeof endpoint !== "function") {
    bad("endpoint", endpoint, "Give a function of a notification that gives its endpoint.");
  }
  const bounds = { least: 1, most: 366 * aDay };
  const timers = { least: 1, most: longestTimer };
  return {
    options,
    endpointTimeout: durationMs("endpointTimeout", options.endpointTimeout, 15_000, timers),
    timeout: durationMs("timeout", options.timeout, 15_000, timers),
    perEndpoint: wholeNumber("perEndpoint", options.perEndpoint, 10, 1, 1_000),
    disableAfter: durationMs("disableAfter", options.disableAfter, 5 * aDay, bounds),
  };
}

/**
 * Asks the option `endpoint`, for a while. A function that never returns must not take a place among
 * what is under way for ever.
 *
 * @throws {HarkError} `TIMEOUT`, or `BAD_OPTION` for what is no endpoint; what the function throws; the
 *   reason of the signal.
 */
export async function endpointOf(
  notification: Notification,
  { options: { endpoint }, endpointTimeout }: CheckedWebhooks,
  signal: AbortSignal,
): Promise<Endpoint | undefined> {
  const late = () =>
    new HarkError(
      "TIMEOUT",
      `the option endpoint gave no endpoint of ${nameOf(notification)} in ${endpointTimeout} ms`,
      { remedy: "Keep in memory what is slow to look up, or raise endpointTimeout." },
    );
  const given = await inTime(endpoint(notification), endpointTimeout, late, signal);
  return given === undefined ? undefined : checkedEndpoint(given);
}

/** Checks what the option `endpoint` has returned. */
function checkedEndpoint(endpoint: Endpoint): Endpoint {
  knownOptions("an endpoint", endpoint, ["name", "url", "secret", "secrets", "headers"]);
  const { name } = endpoint;
  const isName = typeof name === "string" && name.length > 0 && name.length <= 200 &&
    !name.includes("\0") && name.isWellFormed();
  if (!isName) bad("an endpoint's name", name, "Give a text of 1 to 200 characters.");
  return endpoint;
}
