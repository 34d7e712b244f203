/**
 * A handler that posts notifications to another party's server, by Standard Webhooks 1.0.
 *
 * @module
 */

import { inTime, Joined } from "../aborted.ts";
import { bad, knownOptions } from "../check.ts";
import type { Handler } from "../consume/handler.ts";
import type { Notification } from "../consume/notification.ts";
import { DeadLetter, RetryAfter } from "../consume/retry.ts";
import { messageOf } from "../database/translate.ts";
import { aDay, type Duration, durationMs, longestTimer } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { jsonText } from "../publish/json.ts";
import { visible } from "../visible.ts";
import { isPublic } from "./address.ts";
import { type Answer, post } from "./post.ts";
import { secretBytes, signatures, type SigningKeys, signingKeys } from "./signature.ts";

/** Options of {@linkcode webhook}. */
export interface WebhookOptions {
  /**
   * The URL to post to, of `http` or `https`. A function gives it for each notification, such as one
   * for each tenant.
   */
  readonly url:
    | string
    | URL
    | ((notification: Notification) => string | URL | Promise<string | URL>);
  /** The secret that signs: `whsec_` and 24 to 64 bytes in base64. Give it or `secrets`. */
  readonly secret?: string;
  /**
   * Several secrets, 1 to 5. Each signs, so the receiver may have the old or the new one while they
   * are changed.
   */
  readonly secrets?: readonly string[];
  /**
   * How long a request may take, from the look-up of the name to the answer. 1 ms to 2000000000 ms.
   * The functions `url` and `body` may take as long each.
   *
   * @default {15000}
   */
  readonly timeout?: Duration;
  /**
   * Makes the body of a notification, as a value for JSON, or a promise of one. What JSON would
   * silently change or leave out, such as a `Map`, fails the attempt. By default the body is the
   * payload, as the JSON text that the server sent.
   */
  readonly body?: (notification: Notification) => unknown;
  /** Headers to add, such as `authorization`. The headers that the webhook sets cannot be given. */
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * Whether to post to addresses that are not public, such as 127.0.0.1 or 10.1.2.3. Set it only if
   * you choose the URL yourself: otherwise another party could reach your own network.
   *
   * @default {false}
   */
  readonly allowPrivateAddresses?: boolean;
  /** The certificates to trust, as PEM, instead of the well-known ones. */
  readonly ca?: string;
}

/** What the handler of {@linkcode webhook} returns. `onHandled` receives it as `result`. */
export interface WebhookResult {
  /** The status of the answer, 200 to 299. */
  readonly status: number;
  /** The id that was sent as `webhook-id`. */
  readonly id: string;
}

/** Why a webhook was not accepted. */
export class WebhookError extends Error {
  /** The status of the answer. Undefined if there was none. */
  readonly status: number | undefined;

  /** Creates the error. */
  constructor(message: string, status?: number, options: ErrorOptions = {}) {
    super(message, options);
    this.name = "WebhookError";
    this.status = status;
  }
}

/** Headers that are the webhook's own. */
const own = /^(webhook-.*|host|content-length|content-type|connection|transfer-encoding)$/;
/** How long an endpoint that is gone is not asked again, in milliseconds. */
const goneFor = 60_000;

/**
 * Returns a handler that posts each notification by
 * [Standard Webhooks 1.0](https://www.standardwebhooks.com). An answer of 200 to 299 has handled it.
 *
 * - `webhook-id` is the same for each attempt, so the receiver can tell repeats.
 * - Redirects are not followed. 3xx, 4xx, 5xx, a timeout and a lost connection fail with
 *   {@linkcode WebhookError}, and the consumer retries them as its `retry` says.
 * - 429, 502, 503 and 504 with a `Retry-After` header are retried after that time, at most a day. If the header
 *   has 0, a time that is over, or no time at all, they are retried as `retry` says.
 * - 410 gives up: the notification becomes a dead letter, and so do others for the URL in the next
 *   minute, without a request. Then the URL is asked again.
 *
 * @throws {HarkError} `BAD_OPTION`. No message shows a secret.
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { webhook } from "@hark/postgres/handlers";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const consumer = new Consumer(db, {
 *   id: "partner",
 *   channels: "orders",
 *   handle: webhook({
 *     url: "https://partner.example/hooks",
 *     secrets: [Deno.env.get("NEW_SECRET")!, Deno.env.get("OLD_SECRET")!],
 *     timeout: "10s",
 *     body: ({ channel, createdAt, payload }) => ({ type: channel, timestamp: createdAt, data: payload }),
 *   }),
 * });
 * await consumer.run();
 * ```
 */
export function webhook(options: WebhookOptions): Handler {
  const { url, timeout, secrets, allowPrivate } = checked(options);
  let keys: Promise<SigningKeys> | undefined;
  /** When each URL has said that it is gone, by `performance.now()`. */
  const gone = new Map<string, number>();
  return async (notification, context): Promise<WebhookResult> => {
    const asked = async <T>(option: string, given: T | PromiseLike<T>): Promise<T> =>
      await inTime(
        given,
        timeout,
        () =>
          new HarkError("TIMEOUT", `the option ${option} gave nothing in ${timeout} ms`, {
            remedy: "Keep in memory what is slow to look up, or raise timeout.",
          }),
        context.signal,
      );
    const to = typeof url === "function"
      ? urlOf(await asked("url", url(notification)), allowPrivate)
      : url;
    const where = `${to.origin}${to.pathname}`; // the query may hold a secret
    const goneAt = gone.get(to.href);
    if (goneAt !== undefined && performance.now() - goneAt < goneFor) {
      throw new DeadLetter(`${where} is gone: it answered 410 in the last minute`);
    }
    gone.delete(to.href);
    const id = `hark_${notification.id}_${notification.createdAt.getTime().toString(36)}`;
    const body = options.body === undefined
      ? notification.payloadText
      : jsonText(await asked("body", options.body(notification)), "body", false);
    const timestamp = Math.floor(Date.now() / 1000);
    using either = new Joined(context.signal);
    const timer = setTimeout(
      () => either.abort(new WebhookError(`${where} did not answer in ${timeout} ms`)),
      timeout,
    );
    let answer: Answer;
    try {
      answer = await post({
        url: to,
        headers: {
          "user-agent": "hark",
          ...options.headers,
          "content-type": "application/json",
          "webhook-id": id,
          "webhook-timestamp": String(timestamp),
          "webhook-signature": await signatures(
            await (keys ??= signingKeys(secrets)),
            id,
            timestamp,
            body,
          ),
        },
        body,
        signal: either.signal,
        allowPrivate,
        ca: options.ca,
      });
    } catch (cause) {
      if (cause instanceof WebhookError || context.signal.aborted) throw cause;
      throw new WebhookError(`${where} could not be reached: ${messageOf(cause)}`, undefined, {
        cause,
      });
    } finally {
      clearTimeout(timer);
    }
    const { status } = answer;
    if (status >= 200 && status < 300) return { status, id };
    const error = new WebhookError(`${where} answered ${said(answer)}`, status);
    if (status === 410) {
      gone.set(to.href, performance.now());
      throw new DeadLetter(`${error.message}: it is gone`, { cause: error });
    }
    const wait = [429, 502, 503, 504].includes(status) ? waitOf(answer.retryAfter) : undefined;
    if (wait !== undefined) throw new RetryAfter(wait, error.message, { cause: error });
    throw error;
  };
}

function checked(options: WebhookOptions) {
  knownOptions("webhook", options, [
    "url",
    "secret",
    "secrets",
    "timeout",
    "body",
    "headers",
    "allowPrivateAddresses",
    "ca",
  ], '{ url: "https://example.com/hook" }');
  const { url, secret, secrets, body, headers = {}, allowPrivateAddresses = false, ca } = options;
  if (typeof allowPrivateAddresses !== "boolean") {
    bad("allowPrivateAddresses", allowPrivateAddresses, "Give true or false.");
  }
  if ((secret === undefined) === (secrets === undefined)) {
    const what = secret === undefined ? "neither secret nor secrets" : "both secret and secrets";
    throw new HarkError("BAD_OPTION", `webhook has ${what}`, { remedy: "Give one of them." });
  }
  if (
    secrets !== undefined && !(Array.isArray(secrets) && secrets.length > 0 && secrets.length < 6)
  ) {
    throw new HarkError("BAD_OPTION", "secrets is no list of 1 to 5 secrets", {
      remedy: "Give the new secret and the old one.",
    });
  }
  if (body !== undefined && typeof body !== "function") bad("body", body, "Give a function.");
  if (ca !== undefined && typeof ca !== "string") bad("ca", ca, "Give the text of a PEM file.");
  checkHeaders(headers);
  return {
    url: typeof url === "function" ? url : urlOf(url, allowPrivateAddresses),
    secrets: secrets === undefined
      ? [secretBytes(secret, "secret")]
      : secrets.map((one, i) => secretBytes(one, `secrets[${i}]`)),
    timeout: durationMs("timeout", options.timeout, 15_000, { least: 1, most: longestTimer }),
    allowPrivate: allowPrivateAddresses,
  };
}

function checkHeaders(headers: unknown): void {
  if (typeof headers !== "object" || headers === null || Array.isArray(headers)) {
    bad("headers", headers, "Give an object of names and values.");
  }
  for (const [name, value] of Object.entries(headers)) {
    if (own.test(name.toLowerCase())) {
      bad("a name of headers", name, "The webhook sets this header itself: leave it out.");
    }
    // The value is not shown: it may be a secret.
    const isName = /^[\w!#$%&'*+.^`|~-]+$/.test(name);
    if (!isName || typeof value !== "string" || /[^\t\x20-\x7e\x80-\xff]/.test(value)) {
      bad("a name of headers", name, "Give a name and a text, both of Latin letters on one line.");
    }
  }
}

/** Checks a URL as far as possible without looking its name up. */
function urlOf(given: unknown, allowPrivate: boolean): URL {
  const text = given instanceof URL ? given.href : given;
  if (typeof text !== "string" || !URL.canParse(text)) {
    bad("url", given, "Give a URL such as https://partner.example/hooks.");
  }
  const url = new URL(text);
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    bad("url", url.protocol, "Give a URL of https.");
  }
  if (url.username !== "" || url.password !== "") {
    throw new HarkError("BAD_OPTION", `url has a user name or a password, for ${url.host}`, {
      remedy: "Give them as headers: { authorization: … }.",
    });
  }
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const isAddress = host.includes(":") || /^[\d.]+$/.test(host);
  if (isAddress && !allowPrivate && !isPublic(host)) {
    throw new HarkError("BAD_OPTION", `url has ${host}, which is no public address`, {
      remedy: "If the webhook is meant for your own network, set allowPrivateAddresses: true.",
    });
  }
  return url;
}

function said({ status, text }: Answer): string {
  const [first = ""] = text.trim().split("\n");
  if (status >= 300 && status < 400) return `${status}, and redirects are not followed`;
  return first === ""
    ? String(status)
    : `${status}: ${visible(first.slice(0, 200).toWellFormed())}`;
}

/** The milliseconds of a `Retry-After` header: seconds or a date. Undefined if that is no time to come. */
function waitOf(header: string | undefined): number | undefined {
  const text = header?.trim() ?? "";
  // Date.parse takes more for a date, such as "1.5". An attempt at once would spend all of them at once.
  const isDate = /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(text);
  const wait = isDate
    ? Date.parse(text) - Date.now()
    : /^\d+$/.test(text)
    ? Number(text) * 1000
    : 0;
  return wait > 0 ? Math.min(wait, aDay) : undefined;
}
