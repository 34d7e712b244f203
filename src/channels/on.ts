/**
 * A consumer's handlers, one or several for each channel, with the types of the channels.
 *
 * @module
 */

import { bad, channelName, knownOptions, show } from "../check.ts";
import type { Handler, HandlerContext } from "../consume/handler.ts";
import type { Notification } from "../consume/notification.ts";
import { DeadLetter } from "../consume/retry.ts";
import { decode, next } from "./decode.ts";
import {
  type AnyChannel,
  type ChannelName,
  type ChannelOutput,
  type Definition,
  definitionOf,
} from "./kind.ts";

/** Handles what a channel's schema made of a payload. If it throws, the notification is retried. */
export type ChannelHandler<Payload> = (
  payload: Payload,
  notification: Notification<Payload>,
  context: HandlerContext,
) => unknown;

/** Gives the name of the event that a notification is about. */
// deno-lint-ignore no-explicit-any -- the payload of a channel without a type
export type By<Payload = any> = (notification: Notification<Payload>) => unknown;

/** Options of a handler by the name of an event. */
export interface EventOptions<On extends string | AnyChannel = string> {
  /** Gives the name of a notification's event, such as `(n) => n.payload.name`. */
  readonly by: By<ChannelOutput<On>>;
  /** The channel. By default all of the consumer's, which its option `channels` has to name then. */
  readonly channel?: On;
}

/**
 * A consumer's `handle`, made of handlers for single channels: see {@linkcode on}. `Name`: the
 * channels that have a handler.
 */
export interface Handlers<Name extends string = string> {
  /** Handles a notification of any of the channels: what a consumer calls. */
  (notification: Notification, context: HandlerContext): unknown;
  /** Adds a handler for the events of one name: see {@linkcode on}. */
  on<On extends string | AnyChannel = string>(
    event: string,
    handle: ChannelHandler<ChannelOutput<On>>,
    options: EventOptions<On>,
  ): Handlers<string extends On ? string : Name | ChannelName<On>>;
  /** Adds a handler for a channel: see {@linkcode on}. */
  on<const On extends string | AnyChannel>(
    channel: On,
    handle: ChannelHandler<ChannelOutput<On>>,
  ): Handlers<Name | ChannelName<On>>;
  /**
   * Says what happens to notifications for which there is no handler: a function handles them,
   * `"ignore"` passes over them, and `"dead"`, the default, makes them dead letters.
   */
  otherwise(handle: Handler | "ignore" | "dead"): Handlers<string>;
  /** Whether a channel has a handler, or `otherwise` says what happens. */
  readonly handles: (channel: Name) => boolean;
}

/**
 * Makes a consumer's `handle` of a handler for one channel. Add others with `.on(…)`. The consumer's
 * channels follow from them. A typed channel's handler gets what the schema made of the payload, as
 * its first argument and as `notification.payload`.
 *
 * Several handlers of one channel are called one after the other. If one throws, those after it are
 * not called, and the retry calls all of them again.
 *
 * With `by`, a handler is for the events of one name inside a channel.
 *
 * @throws {HarkError} `BAD_OPTION`, `BAD_CHANNEL`.
 * @example
 * ```ts
 * import { channel, connect, Consumer, on } from "@hark/postgres";
 *
 * const paid = channel<{ id: string; total: number }, "orders.paid">("orders.paid");
 * const refunded = channel<{ id: string }, "orders.refunded">("orders.refunded");
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await new Consumer(db, {
 *   id: "billing",
 *   handle: on(paid, (order) => console.log(order.total))
 *     .on(refunded, (order, notification) => console.log(order.id, notification.id)),
 * }).run();
 * ```
 * @example By the name of an event
 * ```ts
 * import { connect, Consumer, on } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await new Consumer(db, {
 *   id: "billing",
 *   channels: "orders",
 *   handle: on("order.paid", (order) => console.log(order.id), { by: (n) => n.payload.name })
 *     .otherwise("ignore"),
 * }).run();
 * ```
 */
export function on<On extends string | AnyChannel = string>(
  event: string,
  handle: ChannelHandler<ChannelOutput<On>>,
  options: EventOptions<On>,
): Handlers<string extends On ? string : ChannelName<On>>;
/** For a channel. */
export function on<const On extends string | AnyChannel>(
  channel: On,
  handle: ChannelHandler<ChannelOutput<On>>,
): Handlers<ChannelName<On>>;
export function on(
  what: string | AnyChannel,
  handle: AnyHandler,
  options?: EventOptions<string | AnyChannel>,
): Handlers {
  return table([handlerOf(what, handle, options)], undefined);
}

// deno-lint-ignore no-explicit-any -- of any channel
type AnyHandler = ChannelHandler<any>;

/** One handler of the table. */
interface One {
  /** Undefined: any channel. */
  readonly channel: string | undefined;
  readonly typed: Definition | undefined;
  readonly event: { readonly name: string; readonly by: By } | undefined;
  readonly handle: AnyHandler;
}

function handlerOf(
  what: string | AnyChannel,
  handle: AnyHandler,
  options: EventOptions<string | AnyChannel> | undefined,
): One {
  if (typeof handle !== "function") {
    bad("handle", handle, "Give a function of a payload, a notification and a context.");
  }
  if (options === undefined) {
    const typed = definitionOf(what);
    return { channel: typed?.name ?? channelName(what), typed, event: undefined, handle };
  }
  knownOptions("on", options, ["by", "channel"]);
  const { by, channel } = options;
  if (typeof what !== "string") bad("the event", what, "Give its name as text.");
  if (typeof by !== "function") {
    bad("by", by, "Give a function, such as (n) => n.payload.name.");
  }
  const typed = definitionOf(channel);
  return {
    channel: channel === undefined ? undefined : typed?.name ?? channelName(channel),
    typed,
    event: { name: what, by },
    handle,
  };
}

/** What a consumer asks a table of handlers. */
export interface HandlersInside {
  /** The names of the channels. */
  readonly channels: readonly string[];
  /** Whether a channel has a handler, or `otherwise` was said. */
  readonly handles: (channel: string) => boolean;
  /** What is declared of a channel. Undefined unless its handler was given as a typed channel. */
  readonly typed: (channel: string) => Definition | undefined;
  /** Whether notifications of a channel are given to the function of `otherwise` only. */
  readonly leaves: (channel: string) => boolean;
}

// A registered symbol: see definitionKey.
const insideKey = Symbol.for("@hark/postgres:handlers:1");

/** What is inside a table of handlers. Undefined for any other function. */
export function insideOf(handle: unknown): HandlersInside | undefined {
  return typeof handle === "function"
    ? (handle as { [insideKey]?: HandlersInside })[insideKey]
    : undefined;
}

type Otherwise = Handler | "ignore" | "dead";

function table(all: readonly One[], otherwise: Otherwise | undefined): Handlers {
  const has = (channel: string) =>
    all.some((one) => one.channel === undefined || one.channel === channel);
  const handles = (channel: string) => otherwise !== undefined || has(channel);
  const inside: HandlersInside = {
    channels: [...new Set(all.flatMap(({ channel }) => channel ?? []))],
    handles,
    typed: (channel) =>
      all.find((one) => one.channel === channel && one.typed !== undefined)?.typed,
    leaves: (channel) => !has(channel) && typeof otherwise === "function",
  };
  const handle = (notification: Notification, context: HandlerContext) =>
    new Calls(all, otherwise ?? "dead", notification, context).from(0);
  return Object.assign(handle, {
    [insideKey]: inside,
    handles,
    on: (what: string | AnyChannel, handle: AnyHandler, options?: EventOptions<never>) =>
      table([...all, handlerOf(what, handle, options)], otherwise),
    otherwise: (given: Otherwise) => {
      if (typeof given !== "function" && given !== "ignore" && given !== "dead") {
        bad("otherwise", given, 'Give a function, "ignore" or "dead".');
      }
      return table(all, given);
    },
  }) as Handlers;
}

/** The calls for one notification. Nothing is awaited if no schema and no handler is asynchronous. */
class Calls {
  readonly #all: readonly One[];
  readonly #otherwise: Otherwise;
  readonly #notification: Notification;
  readonly #context: HandlerContext;
  #decoded: { readonly by: Definition; readonly value: unknown } | undefined;
  #called = false;

  constructor(
    all: readonly One[],
    otherwise: Otherwise,
    notification: Notification,
    context: HandlerContext,
  ) {
    this.#all = all;
    this.#otherwise = otherwise;
    this.#notification = notification;
    this.#context = context;
  }

  /** Calls the handlers from a place in the table on. */
  from(at: number): unknown {
    const { channel } = this.#notification;
    for (let i = at; i < this.#all.length; i++) {
      const one = this.#all[i]!;
      if (one.channel !== undefined && one.channel !== channel) continue;
      return next(
        this.#payload(one),
        (payload) => next(this.#call(one, payload), () => this.from(i + 1)),
      );
    }
    return this.#called ? undefined : this.#left();
  }

  #payload({ typed }: One): unknown {
    if (typed === undefined) return this.#notification.payload;
    if (this.#decoded?.by === typed) return this.#decoded.value;
    return next(decode(typed, this.#notification), (value) => {
      this.#decoded = { by: typed, value };
      return value;
    });
  }

  #call({ event, handle }: One, payload: unknown): unknown {
    if (event !== undefined && event.by(this.#notification) !== event.name) return undefined;
    this.#called = true;
    return handle(payload, this.#notification, this.#context);
  }

  #left(): unknown {
    const { id, channel } = this.#notification;
    if (typeof this.#otherwise === "function") {
      return this.#otherwise(this.#notification, this.#context);
    }
    if (this.#otherwise === "ignore") return undefined;
    const events = this.#all.filter((one) =>
      one.event !== undefined && (one.channel ?? channel) === channel
    );
    const names = events.flatMap(({ event }) => show(event!.by(this.#notification)));
    // The id comes last: dead letters are grouped by how their errors begin, up to a digit.
    const event = names.length === 0 ? "" : ` for the event ${names[0]}`;
    throw new DeadLetter(
      `there is no handler${event} (notification ${id} on channel ${show(channel)})`,
    );
  }
}
