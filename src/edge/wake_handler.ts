/**
 * Being woken by a signed request.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import type { Consumer } from "../consume/consumer.ts";
import type { DrainOptions } from "../consume/run_options.ts";
import { drainValues } from "../consume/runner.ts";
import { isSigned, type SigningKeys, signingKeys } from "../handlers/signature.ts";
import { drainAfter, type DrainedConsumer, errorsOf, headers, statusOf, told } from "./handler.ts";
import { SeenIds } from "./seen_ids.ts";
import { header } from "./wake.ts";
import { secretsOf } from "./wake_secret.ts";

/** How far the clocks of both sides may differ, and how old a request may be, in seconds. */
const tolerance = 300;
/** How many bytes a request may have. A wake has about a hundred. */
const mostBytes = 4096;
/** When a sender may send again what was not finished, in seconds. */
const retryAfter = 1;

/** Options of {@linkcode wakeHandler}. The others are those of a drain, for consumers that do not run. */
export interface WakeHandlerOptions extends DrainOptions {
  /**
   * What the sender signs with: `whsec_` and 24 to 64 bytes in base64. Several, at most 5, while one
   * replaces another.
   */
  readonly secret: string | readonly string[];
}

/** What became of a consumer: it was told to look, or it does not run here and was drained. */
export type WokenConsumer = "woken" | DrainedConsumer;

/** The JSON that {@linkcode wakeHandler} answers with. */
export interface WakeAnswer {
  /** Whether the same request had come before. It has then done nothing itself. */
  readonly repeated: boolean;
  /** Each consumer by its id. Empty for a repeated request if the first one has ended well. */
  readonly consumers: Readonly<Record<string, WokenConsumer>>;
}

/**
 * Makes a function that answers requests of {@linkcode wakeUp}, or of any sender of
 * [Standard Webhooks 1.0](https://www.standardwebhooks.com) with the same secret. A consumer that runs in
 * this process looks at the log at once, and is woken if it sleeps. One that does not run here is
 * drained before the answer. If an earlier request still drains it, it is drained once more after that.
 *
 * | status | if                                                                              |
 * | ------ | ------------------------------------------------------------------------------- |
 * | 200    | all were woken or drained, or the same request came before                      |
 * | 401    | no signature of a secret fits, or the timestamp is more than five minutes off   |
 * | 405    | the method is not POST                                                          |
 * | 409    | the program itself drains or stops one of them in this process: send it again   |
 * | 413    | the body has more than 4096 bytes                                               |
 * | 503    | something may be left, or the server cannot be reached now: send it again       |
 * | 500    | a drain has failed in another way, which is logged                              |
 *
 * A drain leaves something with `"limit"`, `"deadline"` and `"stopped"` if `more` is true, and always with
 * `"busy"`: it cannot know whether other workers see what was just published. The answer says in
 * `Retry-After` when to send the request again, with the same id or another one.
 *
 * A request is done once: the id of one that ended with 200 is remembered for as long as its timestamp would
 * be accepted, for up to 10,000 requests. A repeat that comes before the end waits for it.
 *
 * @throws {HarkError} `BAD_OPTION` at once, for a wrong option. No message shows a secret.
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { wakeHandler } from "@hark/postgres/edge";
 *
 * const db = await connect(Deno.env.get("DATABASE_URL"), { listen: false });
 * const billing = new Consumer(db, { id: "billing", channels: "orders", idle: "sleep", handle() {} });
 * const running = billing.run();
 * const server = Deno.serve(wakeHandler(billing, { secret: Deno.env.get("HARK_WAKE_SECRET")! }));
 * await running;
 * await server.shutdown();
 * ```
 */
export function wakeHandler(
  consumers: Consumer | readonly Consumer[],
  options: WakeHandlerOptions,
): (request: Request) => Promise<Response> {
  const all = Array.isArray(consumers) ? consumers : [consumers];
  if (all.length === 0 || all.some((one) => typeof one?.wake !== "function")) {
    bad("consumers", consumers, "Give a Consumer, or an array of them.");
  }
  knownOptions(
    "wakeHandler",
    options,
    ["secret", "signal", "limit", "deadline", "wait"],
    "{ secret: Deno.env.get('HARK_WAKE_SECRET') }",
  );
  const { secret, ...given } = options;
  const secrets = secretsOf(secret);
  let keys: Promise<SigningKeys> | undefined;
  const settings: DrainOptions = { deadline: 20_000, wait: false, ...given };
  drainValues(settings);
  const seen = new SeenIds(2 * tolerance * 1000);
  /** The requests that are being answered, by their ids. */
  const open = new Map<string, Promise<Woken>>();
  return async (request) => {
    if (request.method !== "POST") {
      await request.body?.cancel();
      const message = `a wake cannot be asked for with ${request.method}`;
      return told(405, "BAD_METHOD", message, "Send POST.", { allow: "POST" });
    }
    const body = await textOf(request);
    if (body === undefined) {
      const message = `the body has more than ${mostBytes} bytes`;
      return told(413, "BAD_PAYLOAD", message, "Send what wakeUp sends.", {});
    }
    const problem = await problemOf(request.headers, body, await (keys ??= signingKeys(secrets)));
    if (problem !== undefined) return told(401, "NO_PERMISSION", ...problem, {});
    const id = request.headers.get(header.id)!;
    const earlier = open.get(id);
    if (earlier !== undefined) {
      const { consumers, status } = await earlier;
      return answer({ repeated: true, consumers: status === 200 ? {} : consumers }, status);
    }
    if (!seen.add(id)) return answer({ repeated: true, consumers: {} });
    const waking = woken(all, settings);
    open.set(id, waking);
    let status = 0;
    try {
      const done = await waking;
      status = done.status;
      return answer({ repeated: false, consumers: done.consumers }, status);
    } finally {
      open.delete(id);
      // It may be sent again, with the same id.
      if (status !== 200) seen.remove(id);
    }
  };
}

interface Woken extends Pick<WakeAnswer, "consumers"> {
  readonly status: number;
}

async function woken(all: readonly Consumer[], settings: DrainOptions): Promise<Woken> {
  const consumers = await Promise.all(all.map(async (one) => {
    const what: WokenConsumer = one.wake() ? "woken" : await drainAfter(one, settings);
    return [one.id!, what] as const;
  }));
  const drained = consumers.flatMap(([, what]) => what === "woken" ? [] : [what]);
  const status = Math.max(
    drained.some(isUnfinished) ? 503 : 200,
    ...errorsOf(drained).map(statusOf),
  );
  return { consumers: Object.fromEntries(consumers), status };
}

/** Whether something may be left that another drain would handle. */
function isUnfinished(drained: DrainedConsumer): boolean {
  if ("error" in drained) return false;
  const { reason, more } = drained;
  return reason === "busy" || more && reason !== "done" && reason !== "paused";
}

function answer(body: WakeAnswer, status: number = 200): Response {
  const more: HeadersInit = status === 503 ? { "retry-after": String(retryAfter) } : {};
  return Response.json(body, { status, headers: { ...headers, ...more } });
}

/** Why a request is refused, and what to do about it. Undefined if it is accepted. */
async function problemOf(
  given: Headers,
  body: string,
  keys: SigningKeys,
): Promise<readonly [message: string, remedy: string] | undefined> {
  const [id, timestamp, signature] = [header.id, header.timestamp, header.signature].map((name) =>
    given.get(name) ?? ""
  ) as [string, string, string];
  const remedy = "Sign the request as Standard Webhooks 1.0 says, or send it by wakeUp.";
  if (id === "" || signature === "" || !/^\d{1,12}$/.test(timestamp)) {
    return ["the request is not signed", remedy];
  }
  if (!await isSigned(keys, id, Number(timestamp), body, signature)) {
    return ["the signature is wrong", "Both sides need the same secret."];
  }
  const age = Date.now() / 1000 - Number(timestamp);
  if (Math.abs(age) > tolerance) {
    const message = `the timestamp is ${Math.round(Math.abs(age))} s ${
      age > 0 ? "old" : "in the future"
    }`;
    return [message, "Sign each request anew, and set the clocks of both sides."];
  }
  return undefined;
}

/** The body as text. Undefined if it is too long. */
async function textOf(request: Request): Promise<string | undefined> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const part of request.body ?? []) {
    size += part.length;
    if (size > mostBytes) return undefined;
    parts.push(part);
  }
  return await new Blob(parts).text();
}
