/**
 * Draining on a request: for schedulers that call a URL.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import type { Consumer } from "../consume/consumer.ts";
import type { DrainOptions } from "../consume/run_options.ts";
import { drainValues } from "../consume/runner.ts";
import { pause } from "../database/bell.ts";
import { translate } from "../database/translate.ts";
import type { Duration } from "../duration.ts";
import type { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import { drain, type DrainResult } from "./drain.ts";
import { Secrets } from "./secret.ts";

const logger = getLogger(["hark", "edge"]);

/** The drains that requests have begun. Another request for the same consumer is normal, and no failure. */
const draining = new WeakMap<Consumer, Promise<DrainedConsumer>>();
/** The drains that follow on those. */
const following = new WeakMap<Consumer, Promise<DrainedConsumer>>();

/** Options of {@linkcode drainHandler}. The others are those of a drain, for each consumer. */
export interface DrainHandlerOptions extends DrainOptions {
  /**
   * What a request must show as `Authorization: Bearer SECRET`: text of at least 16 characters, all
   * of them visible ASCII. Give several while one replaces another.
   */
  readonly secret: string | readonly string[];
  /**
   * How long a drain may take, 1 ms to 2000000000 ms: less than the platform gives a request.
   *
   * @default {20000}
   */
  readonly deadline?: Duration;
  /**
   * Whether to wait for what other workers serve, and for retries that are due soon. By default a
   * request does not.
   *
   * @default {false}
   */
  readonly wait?: boolean;
}

/** What a consumer's part of the answer is: its result, or the error that ended its drain. */
export type DrainedConsumer = DrainResult | {
  /** The error: its code and message, and what to do about it. */
  readonly error: { readonly code: string; readonly message: string; readonly remedy?: string };
};

/** The JSON that {@linkcode drainHandler} answers with. */
export interface DrainAnswer {
  /** How many notifications were handled, by all consumers. */
  readonly handled: number;
  /** Whether another request may find something to handle at once. */
  readonly more: boolean;
  /**
   * Why it ended: `"failed"` if a consumer has an error, else the first of `"stopped"`, `"deadline"`,
   * `"limit"`, `"busy"`, `"paused"` and `"done"` that is the reason of a consumer.
   */
  readonly reason: DrainResult["reason"] | "failed";
  /** Each consumer by its id. */
  readonly consumers: Readonly<Record<string, DrainedConsumer>>;
}

/**
 * Makes a function that answers requests: each drains the consumers, side by side, and tells what was
 * done, as {@linkcode DrainAnswer}. It takes POST, and GET for schedulers that send nothing else.
 *
 * | status | if                                                                         |
 * | ------ | -------------------------------------------------------------------------- |
 * | 200    | nothing is left for another request: all is done, paused, or served by     |
 * |        | other workers, also by an earlier request                                  |
 * | 202    | a limit, the deadline or a stop has ended it, or something came due while  |
 * |        | it ran: another request may go on at once (`more`)                         |
 * | 401    | the secret is missing or wrong                                             |
 * | 405    | the method is another one                                                  |
 * | 409    | the program itself runs, drains or stops one of them in this process       |
 * | 503    | the server cannot be reached now                                           |
 * | 500    | a drain has failed in another way, which is logged                         |
 *
 * @throws {HarkError} `BAD_OPTION` at once, for a wrong option.
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { drainHandler } from "@hark/postgres/edge";
 *
 * const db = await connect(Deno.env.get("DATABASE_URL"), { poolSize: 1 });
 * const billing = new Consumer(db, { id: "billing", channels: "orders", handle() {} });
 * Deno.serve(drainHandler(billing, { secret: Deno.env.get("DRAIN_SECRET")!, deadline: "25s" }));
 * ```
 */
export function drainHandler(
  consumers: Consumer | readonly Consumer[],
  options: DrainHandlerOptions,
): (request: Request) => Promise<Response> {
  const all = Array.isArray(consumers) ? consumers : [consumers];
  if (all.length === 0 || all.some((one) => typeof one?.drain !== "function")) {
    bad("consumers", consumers, "Give a Consumer, or an array of them.");
  }
  knownOptions(
    "drainHandler",
    options,
    ["secret", "signal", "limit", "deadline", "wait"],
    "{ secret: Deno.env.get('DRAIN_SECRET') }",
  );
  const { secret, ...given } = options;
  const secrets = new Secrets(secret);
  const settings: DrainOptions = { deadline: 20_000, wait: false, ...given };
  drainValues(settings);
  return async (request) => {
    if (request.method !== "POST" && request.method !== "GET") {
      const message = `a drain cannot be asked for with ${request.method}`;
      return told(405, "BAD_METHOD", message, "Send POST or GET.", { allow: "GET, POST" });
    }
    if (!await secrets.areShownBy(request)) {
      const remedy = "Send the header Authorization: Bearer SECRET.";
      return told(401, "NO_PERMISSION", "the secret is missing or wrong", remedy, {
        "www-authenticate": "Bearer",
      });
    }
    return await answer(all, settings);
  };
}

/**
 * Drains a consumer. If an earlier request still does so, it is busy, as if that were another process. An
 * error is logged, and part of the result.
 */
export async function drainOne(one: Consumer, options: DrainOptions): Promise<DrainedConsumer> {
  if (draining.has(one)) return { ...nothing, more: false, reason: "busy" };
  const drained = begun(one, options);
  draining.set(one, drained);
  return await drained;
}

/**
 * Drains a consumer. If an earlier request still does so, it drains once more when that has ended: for what
 * was committed since. All that ask in that time share one drain.
 */
export async function drainAfter(one: Consumer, options: DrainOptions): Promise<DrainedConsumer> {
  if (!draining.has(one)) return await drainOne(one, options);
  const known = following.get(one);
  if (known !== undefined) return await known;
  const next = follow(one, options);
  following.set(one, next);
  return await next;
}

async function follow(one: Consumer, options: DrainOptions): Promise<DrainedConsumer> {
  const { deadline = Infinity } = drainValues(options);
  const until = performance.now() + deadline;
  const over = new AbortController();
  try {
    for (let earlier; (earlier = draining.get(one)) !== undefined;) {
      await Promise.race([earlier, pause(until - performance.now(), over.signal)]);
      // Its time is over before it could begin.
      if (performance.now() >= until) return { ...nothing, more: true, reason: "deadline" };
    }
  } finally {
    over.abort();
    following.delete(one);
  }
  const left = Math.max(1, Math.ceil(until - performance.now()));
  return await drainOne(one, left === Infinity ? options : { ...options, deadline: left });
}

/** What a drain has done that did not begin. */
const nothing = { handled: 0, failed: 0, dead: 0, left: 0 };

async function begun(one: Consumer, options: DrainOptions): Promise<DrainedConsumer> {
  try {
    return await drain(one, options);
  } catch (error) {
    const translated = translate(error);
    const { message } = translated;
    logger.error("{consumer}: the drain failed: {reason}", { consumer: one.id, reason: message });
    return { error: shown(translated) };
  } finally {
    draining.delete(one);
  }
}

/** The errors among these. */
export function errorsOf(drained: readonly DrainedConsumer[]): { readonly code: string }[] {
  return drained.flatMap((one) => "error" in one ? [one.error] : []);
}

/** The reasons of several drains, the one to tell first. */
const reasons = ["failed", "stopped", "deadline", "limit", "busy", "paused", "done"] as const;

function reasonOf(drained: DrainedConsumer): DrainAnswer["reason"] {
  return "error" in drained ? "failed" : drained.reason;
}

async function answer(consumers: readonly Consumer[], options: DrainOptions): Promise<Response> {
  const drained = await Promise.all(consumers.map((one) => drainOne(one, options)));
  const body: DrainAnswer = {
    handled: drained.reduce((sum, one) => sum + ("error" in one ? 0 : one.handled), 0),
    more: drained.some((one) => !("error" in one) && one.more),
    reason: reasons.find((reason) => drained.some((one) => reasonOf(one) === reason))!,
    consumers: Object.fromEntries(drained.map((one, i) => [consumers[i]!.id!, one])),
  };
  return Response.json(body, {
    status: Math.max(body.more ? 202 : 200, ...errorsOf(drained).map(statusOf)),
    headers,
  });
}

/** The headers of every answer. */
export const headers = { "cache-control": "no-store" };

/** The status of an answer with an error. */
export function statusOf({ code }: { readonly code: string }): number {
  if (code === "CONFLICT") return 409;
  return /^(UNREACHABLE|TIMEOUT|NOT_PRIMARY)$/.test(code) ? 503 : 500;
}

/** An error as an answer shows it: the remedy apart. */
function shown({ code, message, remedy }: HarkError) {
  if (remedy === undefined) return { code, message };
  return { code, message: message.replace(`. ${remedy}`, ""), remedy };
}

/** An answer that refuses a request. */
export function told(
  status: number,
  code: string,
  message: string,
  remedy: string,
  more: Record<string, string>,
): Response {
  const body = { error: { code, message, remedy } };
  return Response.json(body, { status, headers: { ...headers, ...more } });
}
