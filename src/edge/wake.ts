/**
 * Waking over HTTP: a signed request that tells a process to look at the log.
 *
 * @module
 */

import { Joined } from "../aborted.ts";
import { abortSignal, bad, knownOptions } from "../check.ts";
import { pause } from "../database/bell.ts";
import { type Duration, durationMs, longestTimer } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { signatures, type SigningKeys, signingKeys } from "../handlers/signature.ts";
import { secretsOf } from "./wake_secret.ts";

/** How long it is waited at least before a request is sent again, in milliseconds. */
const shortestWait = 100;

/** Options of {@linkcode wakeUp}. */
export interface WakeOptions {
  /**
   * What signs the request: `whsec_` and 24 to 64 bytes in base64, as for webhooks. Several, at most 5,
   * while one replaces another.
   */
  readonly secret: string | readonly string[];
  /**
   * How long to wait for the answer, 1 ms to 2000000000 ms. Give more than the `deadline` of the
   * handler, which is 20 s by default.
   *
   * @default {30000}
   */
  readonly timeout?: Duration;
  /** Gives up when it aborts. */
  readonly signal?: AbortSignal;
}

/** The headers of Standard Webhooks 1.0. */
export const header = {
  id: "webhook-id",
  timestamp: "webhook-timestamp",
  signature: "webhook-signature",
} as const;

/**
 * Wakes consumers that sleep: posts a signed request to a {@linkcode wakeHandler}. Call it after the
 * transaction that published has committed. It needs no database, and the right to reach the URL.
 *
 * If the answer is 503 with `Retry-After`, it sends the request again while there is time. If it fails,
 * nothing is gone from the log: the consumers handle it when they wake next. So call it again.
 *
 * @throws {HarkError} `DESTINATION` if the URL cannot be reached or refuses the request, `TIMEOUT` if it
 * does not answer in time, `BAD_OPTION`. No message shows a secret. The reason of `signal` if that aborts.
 * @example
 * ```ts
 * import { notify, type Queryable } from "@hark/postgres/publish";
 * import { wakeUp } from "@hark/postgres/edge";
 *
 * declare const db: Queryable;
 * await notify(db, "orders", { id: 42 });
 * await wakeUp("https://billing.example/wake", { secret: Deno.env.get("HARK_WAKE_SECRET")! });
 * ```
 */
export async function wakeUp(url: string | URL, options: WakeOptions): Promise<void> {
  knownOptions("wakeUp", options, ["secret", "timeout", "signal"], "{ secret: 'whsec_…' }");
  const to = urlOf(url);
  const keys = await signingKeys(secretsOf(options.secret));
  const bounds = { least: 1, most: longestTimer };
  const timeout = durationMs("timeout", options.timeout, 30_000, bounds);
  const signal = abortSignal("signal", options.signal);
  signal?.throwIfAborted();
  const where = `${to.origin}${to.pathname}`; // the query may hold a secret
  const id = `hark_wake_${crypto.randomUUID()}`;
  const until = performance.now() + timeout;
  const late = AbortSignal.timeout(timeout);
  using either = new Joined(late, ...signal === undefined ? [] : [signal]);
  const over = either.signal;
  let response: Response;
  try {
    for (;;) {
      response = await send(to, id, keys, over);
      await response.body?.cancel();
      const asked = 1000 * Number(response.headers.get("retry-after") ?? NaN);
      const wait = Math.max(shortestWait, asked);
      if (response.status !== 503 || !(performance.now() + wait < until)) break;
      await pause(wait, over);
      signal?.throwIfAborted();
    }
  } catch (cause) {
    signal?.throwIfAborted();
    if (late.aborted) {
      throw new HarkError("TIMEOUT", `${where} did not answer in ${timeout} ms`, {
        cause,
        remedy: "Wake it again. Raise timeout if the process needs longer to start or to drain.",
      });
    }
    throw new HarkError("DESTINATION", `${where} could not be reached: ${reasonOf(cause)}`, {
      cause,
      remedy:
        "What was published stays in the log. Check the URL, and whether this program may reach it.",
    });
  }
  const { status } = response;
  if (response.ok) return;
  throw new HarkError("DESTINATION", `${where} answered ${status}`, {
    remedy: status === 401
      ? "Both sides need the same secret, and clocks that differ by less than five minutes."
      : status >= 300 && status < 400
      ? "Redirects are not followed: give the URL that answers."
      : status === 409 || status === 503
      ? "The process could not take up all that is published. Wake it again later."
      : "What was published stays in the log. Look into the log of the process that answered.",
  });
}

/** Sends a wake, signed for this moment. */
async function send(
  to: URL,
  id: string,
  keys: SigningKeys,
  signal: AbortSignal,
): Promise<Response> {
  const now = new Date();
  const timestamp = Math.floor(now.getTime() / 1000);
  const body = JSON.stringify({ type: "hark.wake", timestamp: now.toISOString(), data: {} });
  return await fetch(to, {
    method: "POST",
    redirect: "manual",
    headers: {
      "content-type": "application/json",
      "user-agent": "hark",
      [header.id]: id,
      [header.timestamp]: String(timestamp),
      [header.signature]: await signatures(keys, id, timestamp, body),
    },
    body,
    signal,
  });
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function urlOf(given: unknown): URL {
  const text = given instanceof URL ? given.href : given;
  if (typeof text !== "string" || !URL.canParse(text)) {
    bad("url", given, "Give the URL of a wakeHandler, such as https://billing.example/wake.");
  }
  const url = new URL(text);
  if (url.protocol !== "https:" && url.protocol !== "http:") {
    bad("url", url.protocol, "Give a URL of https.");
  }
  if (url.username !== "" || url.password !== "") {
    throw new HarkError("BAD_OPTION", `url has a user name or a password, for ${url.host}`, {
      remedy: "Leave them out: the request is signed.",
    });
  }
  return url;
}
