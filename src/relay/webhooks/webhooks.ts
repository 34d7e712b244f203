/**
 * `webhooks()`: the servers of many parties as the target of a relay.
 *
 * @module
 */

import type { Handler, HandlerContext } from "../../consume/handler.ts";
import type { Notification } from "../../consume/notification.ts";
import { DeadLetter, RetryAfter } from "../../consume/retry.ts";
import { messageOf } from "../../database/translate.ts";
import { given } from "../../given.ts";
import { webhook, WebhookError } from "../../handlers/webhook.ts";
import { getLogger } from "../../log/logger.ts";
import { nameOf } from "../message.ts";
import type { Look, OpenSink, Receipt, RelayMessage, Sink, SinkSetting } from "../sink.ts";
import { Condition, type Failure } from "./condition.ts";
import {
  type CheckedWebhooks,
  checkedWebhooks,
  type Endpoint,
  endpointOf,
  type WebhooksOptions,
} from "./options.ts";
import { named } from "./named.ts";
import { EndpointStore } from "./store.ts";
import { shellWord } from "../../visible.ts";

const logger = getLogger(["hark", "relay"]);

/**
 * Returns a target for {@linkcode relay}: the servers of many parties, by
 * [Standard Webhooks 1.0](https://www.standardwebhooks.com). Each notification is posted to its endpoint
 * as the handler `webhook` does. An endpoint that hangs or fails does not hold up others:
 *
 * - After a failure, a timeout or `Retry-After`, it is left alone for a while. Its notifications wait in
 *   the database, and that does not count as an attempt.
 * - 410 disables it, and so does nothing but failures for `disableAfter`. Its notifications become dead
 *   letters. `redriveEndpoint` asks it again and sends them.
 *
 * The states of endpoints are in the database: see {@linkcode relayEndpoints}.
 *
 * @throws {HarkError} `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { relay, webhooks } from "@hark/postgres/relay";
 *
 * const tenants = new Map([["acme", { url: "https://acme.example/hooks", secret: "whsec_…" }]]);
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await relay(db, {
 *   id: "to-tenants",
 *   channels: "orders",
 *   to: webhooks({
 *     endpoint({ key }) {
 *       const tenant = tenants.get(key ?? "");
 *       return tenant && { name: key!, ...tenant };
 *     },
 *   }),
 * }).run();
 * ```
 */
export function webhooks(options: WebhooksOptions): Sink {
  const checked = checkedWebhooks(options);
  return {
    kind: "webhooks",
    isolated: true,
    async open(setting: SinkSetting): Promise<OpenSink> {
      const store = new EndpointStore(setting.db, setting.relay);
      await store.load();
      return new OpenWebhooks(checked, store, setting.relay);
    },
  };
}

/** An endpoint while a relay posts to it. */
interface Known {
  readonly condition: Condition;
  /** The settings that the handler was made of. */
  settings: string;
  handler: Handler;
}

class OpenWebhooks implements OpenSink {
  readonly #checked: CheckedWebhooks;
  readonly #store: EndpointStore;
  readonly #relay: string;
  readonly #known = new Map<string, Known>();
  readonly target = "webhooks";
  readonly warnings: readonly string[] = [];
  readonly end = 0;

  constructor(checked: CheckedWebhooks, store: EndpointStore, relay: string) {
    this.#checked = checked;
    this.#store = store;
    this.#relay = relay;
  }

  /** The receiver tells repeats by `webhook-id`. */
  publishedBehind(): Promise<Look> {
    return Promise.resolve({ ids: new Set<string>(), end: 0 });
  }

  recover(): Promise<ReadonlySet<string>> {
    return Promise.resolve(new Set<string>());
  }

  async describe({ notification }: RelayMessage, signal: AbortSignal): Promise<string> {
    const endpoint = await endpointOf(notification, this.#checked, signal);
    if (endpoint === undefined) return `${nameOf(notification)} has no endpoint`;
    this.#handlerOf(endpoint); // which refuses a URL or a secret that cannot be used
    return `endpoint "${endpoint.name}" at ${new URL(endpoint.url).origin}`;
  }

  async publish({ notification }: RelayMessage, signal: AbortSignal): Promise<Receipt> {
    const receipt = { place: 0, duplicate: false };
    const endpoint = await endpointOf(notification, this.#checked, signal);
    if (endpoint === undefined) return receipt;
    const { name } = endpoint;
    await this.#requireEnabled(name);
    const known = this.#of(endpoint);
    known.condition.failing = this.#store.known(name);
    const begunAt = performance.now();
    const end = known.condition.begin(begunAt);
    try {
      // It uses nothing but the signal of its context.
      await known.handler(notification, { signal } as HandlerContext);
    } catch (error) {
      signal.throwIfAborted();
      throw await this.#failed(name, known, begunAt, notification, error);
    } finally {
      end();
    }
    known.condition.failing = this.#store.known(name);
    if (known.condition.succeeded()) this.#store.recovered(name);
    if (known.condition.isIdle && this.#known.size > 10_000) this.#known.delete(name);
    return receipt;
  }

  #of(endpoint: Endpoint): Known {
    const { name, url, ...rest } = endpoint;
    const settings = JSON.stringify({ url: String(url), ...rest });
    const known = this.#known.get(name);
    if (known?.settings === settings) return known;
    const handler = this.#handlerOf(endpoint);
    if (known !== undefined) return Object.assign(known, { settings, handler });
    const made = { condition: new Condition(name, this.#checked), settings, handler };
    this.#known.set(name, made);
    return made;
  }

  #handlerOf({ name: _, ...endpoint }: Endpoint): Handler {
    const { timeout, body, allowPrivateAddresses, ca } = this.#checked.options;
    return webhook({ ...endpoint, ...given({ timeout, body, allowPrivateAddresses, ca }) });
  }

  /** @throws {DeadLetter} If an endpoint is disabled, by what is stored now. */
  async #requireEnabled(name: string): Promise<void> {
    await this.#store.refresh();
    const before = this.#store.known(name);
    if (before === undefined || !before.disabled && before.until <= performance.now()) return;
    await this.#store.load(); // it may just have been redriven
    const stored = this.#store.known(name);
    if (!stored?.disabled) return;
    const remedy = `To send what it missed: ${this.#redriving(name)}`;
    throw new DeadLetter(named(name, `is disabled: ${stored.reason}. ${remedy}`));
  }

  /** Notes what a failure says of its endpoint. Returns the error for the notification. */
  async #failed(
    name: string,
    known: Known,
    begunAt: number,
    notification: Notification,
    error: unknown,
  ): Promise<unknown> {
    const failure = failureOf(error);
    if (failure !== undefined) {
      const { condition } = known;
      // Its handler would take it for gone even after it was redriven.
      if (failure.isGone) known.settings = "";
      condition.failing = this.#store.known(name);
      const now = performance.now();
      if (!failure.isGone && condition.isOverdue(begunAt, now)) {
        await this.#store.load(); // another process may have had a success
        condition.failing = this.#store.known(name);
      }
      const before = condition.failing;
      condition.failed(begunAt, now, failure);
      const after = condition.failing!;
      if (after !== before) this.#store.failing(name, after);
      if (after.disabled && before?.disabled !== true) this.#tellDisabled(name, after.reason);
    }
    return namedError(name, notification, error);
  }

  #redriving(endpoint: string): string {
    return `hark relay ${shellWord(this.#relay)} --redrive ${shellWord(endpoint)}`;
  }

  #tellDisabled(endpoint: string, reason: string): void {
    logger.error(
      "{relay}: endpoint {endpoint} is disabled: {reason}. Its notifications become dead letters. {remedy}",
      {
        relay: this.#relay,
        endpoint,
        reason,
        remedy: `To ask it again: ${this.#redriving(endpoint)}`,
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#store[Symbol.asyncDispose]();
  }
}

/** The error with the endpoint's name before it, by which {@linkcode redriveEndpoint} finds it. */
function namedError(endpoint: string, notification: Notification, error: unknown): unknown {
  const message = named(endpoint, `did not take ${nameOf(notification)}: ${messageOf(error)}`);
  const options = { cause: error };
  if (error instanceof RetryAfter) return new RetryAfter(error.delay, message, options);
  if (error instanceof DeadLetter) return new DeadLetter(message, options);
  if (error instanceof WebhookError) return new WebhookError(message, error.status, options);
  return error;
}

/** What an error says of the endpoint. Undefined if it is about the message alone. */
function failureOf(error: unknown): Failure | undefined {
  if (!(error instanceof Error)) return undefined;
  const answered = error instanceof WebhookError ? error : error.cause;
  if (!(answered instanceof WebhookError)) return undefined;
  const { status } = answered;
  const isItsOwn = status === undefined || status >= 500 || [408, 410, 429].includes(status);
  if (!isItsOwn) return undefined;
  const wait = error instanceof RetryAfter ? error.delay : undefined;
  return { status, reason: error.message, wait, isGone: status === 410 };
}
