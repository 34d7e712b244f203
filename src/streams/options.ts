/**
 * The options of streams.
 *
 * @module
 */

import { typedAmong } from "../channels/consume.ts";
import type { ChannelOutput, Definition } from "../channels/kind.ts";
import { bad, channelNames, knownOptions } from "../check.ts";
import { namesOf } from "../consume/check_options.ts";
import type { Notification } from "../consume/notification.ts";
import type { ChannelGiven } from "../consume/options.ts";
import {
  aFunction,
  checkedValues,
  duration,
  number,
  oneOf,
  other,
  requiredFunction,
} from "../option_rules.ts";
import type { Duration } from "../duration.ts";
import { given } from "../given.ts";

/** What a client reads. */
export interface StreamRoute {
  /** One or several channels, typed or by name. Null is every channel. */
  readonly channels: ChannelGiven | readonly ChannelGiven[] | null;
  /**
   * The media type. Messages of `application/json` are the payloads, as JSON. With `text/…` the
   * payloads must be texts, which are read one behind the other. With any other type they must be
   * texts in base64, and bytes are read.
   *
   * @default {"application/json"}
   */
  readonly contentType?: string;
  /**
   * Which notifications the client may read. It must be quick: it runs for each client. It must answer
   * at once: if it returns a promise, the notification is left out.
   */
  readonly filter?: (notification: Notification) => boolean;
}

/**
 * What `authorize` answers: whether the client may read, a response to give instead, or what this
 * client reads, in place of what the handler's options say.
 */
export type StreamAccess = boolean | null | Response | Partial<StreamRoute>;

/** What the notifications of channels have as their payload, as far as their types say. */
export type StreamPayload<Given> = Given extends readonly (infer One)[] ? ChannelOutput<One>
  : ChannelOutput<Given>;

/** Options of {@linkcode streams}. Durations are milliseconds. */
export interface StreamsOptions<Given extends StreamRoute["channels"] = StreamRoute["channels"]> {
  /**
   * Decides about each request, before anything else. False, null or undefined refuses with 403,
   * whatever the path, so that the client does not learn which streams there are. So does what is no
   * answer, such as a text or a number, with an error in the log. A response is given as it is,
   * such as one with the status 401. `() => true` lets every client read.
   */
  readonly authorize: (request: Request) => StreamAccess | Promise<StreamAccess>;
  /** The channels to read. Give this or `route`, unless `authorize` says it for each client. */
  readonly channels?: Given;
  /** Says what a request reads, such as by its path. Null is answered with 404. */
  readonly route?: (
    request: Request,
  ) => StreamRoute | null | undefined | Promise<StreamRoute | null | undefined>;
  /**
   * Makes the message of a notification, as a value for JSON. Undefined leaves the notification out.
   * So does, with an error in the log, a promise, or what JSON would change, such as a `Map`.
   * It is called once for all clients, so it must not depend on one. On a typed channel, `payload` is
   * what the schema makes, as handlers get it. Without it, the payload is sent as JSON: on a typed
   * channel as a publisher of the newest version gives it.
   */
  readonly message?: (notification: Notification<StreamPayload<Given>>) => unknown;
  /**
   * The origins whose pages may read: `"*"` for all, without cookies, or a list, with cookies.
   */
  readonly cors?: "*" | readonly string[];
  /**
   * Where pages that are complete may be kept for a minute: at the client (`"private"`), also in
   * caches on the way (`"public"`), or nowhere.
   *
   * @default {"private"}
   */
  readonly cache?: "private" | "public" | "no-store";
  /** The interval between signs of life on a live response, 100 ms to 1 day. @default {15000} */
  readonly heartbeat?: Duration;
  /** How long a browser waits before it connects again, 1 ms to 1 day. @default {2000} */
  readonly retry?: Duration;
  /**
   * How long a live response lasts at most, 1000 ms to 1 day. Each lasts up to a tenth less, so that
   * clients do not all come at once. The client connects again by itself, and `authorize` is asked
   * again.
   *
   * @default {600000}
   */
  readonly lifetime?: Duration;
  /** How long a long poll waits for something new, 1 ms to 1 day. @default {20000} */
  readonly longPoll?: Duration;
  /**
   * The most bytes that are kept in memory for clients that come a little later, at least 1. It
   * counts for each set of channels. A client that is slower reads from the log by itself.
   *
   * @default {8388608}
   */
  readonly buffer?: number;
  /** The most live responses at once, 1 to 1000000. More are answered with 503. @default {10000} */
  readonly maxClients?: number;
  /** How often to read the log without being woken, 1 ms to 1 day. @default {3000} */
  readonly pollInterval?: Duration;
  /** Ends all live responses when it aborts, for the end of a server. */
  readonly signal?: AbortSignal;
}

const aDay = 86_400_000;

/** The rules of the options. */
export const streamsRules = {
  authorize: requiredFunction,
  channels: other("names, typed channels, or null"),
  route: aFunction,
  message: aFunction,
  cors: other('`"*"`, or a list of origins'),
  cache: oneOf("private", "public", "no-store"),
  heartbeat: duration(15_000, 100, aDay),
  retry: duration(2000, 1, aDay),
  lifetime: duration(600_000, 1000, aDay),
  longPoll: duration(20_000, 1, aDay),
  buffer: number(8 * 1024 * 1024, 1),
  maxClients: number(10_000, 1, 1_000_000),
  pollInterval: duration(3000, 1, aDay),
  signal: other("an `AbortSignal`"),
} satisfies Parameters<typeof checkedValues>[1] & Record<keyof StreamsOptions, unknown>;

/** The options, checked. */
export type StreamsValues = ReturnType<typeof streamsValues>;

/** Checks the options. @throws {HarkError} `BAD_OPTION`, `BAD_CHANNEL`. */
export function streamsValues(options: StreamsOptions) {
  const values = checkedValues("streams", streamsRules, options);
  const { authorize, channels, route, message, cors, signal } = options;
  if (authorize === undefined) {
    bad(
      "authorize",
      authorize,
      "Give a function that says whether a request may read. () => true lets every client read.",
    );
  }
  if (channels !== undefined && route !== undefined) {
    bad("route", route, "Give channels or route, not both.");
  }
  const isList = Array.isArray(cors) && cors.every((one) => URL.canParse(one) && isOrigin(one));
  if (cors !== undefined && cors !== "*" && !isList) {
    bad("cors", cors, 'Give "*", or a list of origins such as ["https://example.com"].');
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    bad("signal", signal, "Give the signal of an AbortController.");
  }
  const fixed = channels === undefined ? undefined : { channels };
  if (fixed !== undefined) checkedRoute(fixed);
  return { ...values, authorize, route: route ?? (() => fixed), message, cors, signal };
}

function isOrigin(text: string): boolean {
  return new URL(text).origin === text;
}

/** A route, checked. */
export interface CheckedRoute {
  /** Sorted, each once. Null is every channel. */
  readonly names: string[] | null;
  readonly contentType: string;
  readonly filter: StreamRoute["filter"];
  /** The typed channels, by name. */
  readonly typed: ReadonlyMap<string, Definition>;
}

/**
 * Checks what a route reads.
 *
 * @param own What a client reads in place of it.
 * @throws {HarkError} `BAD_OPTION`, `BAD_CHANNEL`.
 */
export function checkedRoute(
  route: Partial<StreamRoute>,
  own: Partial<StreamRoute> = {},
): CheckedRoute {
  for (const one of [route, own]) {
    knownOptions("a route", one, ["channels", "contentType", "filter"], '{ channels: "orders" }');
  }
  const all = { ...route, ...given(own) } as StreamRoute;
  const { channels, contentType = "application/json", filter } = all;
  if (typeof contentType !== "string" || !/^[\w.+-]+\/[\w.+-]+(;.*)?$/.test(contentType)) {
    bad("contentType", contentType, 'Give a media type, such as "application/json".');
  }
  if (filter !== undefined && typeof filter !== "function") {
    bad("filter", filter, "Give a function of a notification.");
  }
  const names = channels === null ? null : [...new Set(channelNames(namesOf(channels)))].toSorted();
  return { names, contentType, filter, typed: typedAmong(channels) };
}
