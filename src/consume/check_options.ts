/**
 * Checks the options of a consumer and fills in the defaults.
 *
 * @module
 */

import { decoding, decodingBatch } from "../channels/consume.ts";
import { definitionOf } from "../channels/kind.ts";
import { insideOf } from "../channels/on.ts";
import { bad, channelNames, consumerName, knownOptions, show } from "../check.ts";
import { HarkError } from "../errors.ts";
import { checkedValues } from "../option_rules.ts";
import { headersText, keyText, payloadText, wordOf } from "../publish/payload.ts";
import { type AnyAround, aroundList, withAround } from "./around.ts";
import type { BatchHandler, Handler } from "./handler.ts";
import { retryPolicy } from "./check_retry.ts";
import { isWaitedFor } from "./state/work.ts";
import { consumerRules } from "./option_table.ts";
import type { ChannelGiven, ChannelStart, ConsumerFilter, ConsumerOptions } from "./options.ts";
import type { CheckedOptions } from "./state/context.ts";
import { checkedLimits } from "./limits.ts";
import { type LogPlace, startValues } from "./start.ts";

/** How many rows are scanned for one page. Bounds how long a read of a rare channel takes. */
const scannedPerPage = 20_000;

/** The handler of a consumer: one of these functions. */
export interface GivenHandlers {
  readonly handle: Handler | undefined;
  readonly handleBatch: BatchHandler | undefined;
}

/** The names of the channels, without their starts. */
export function namesOf(channels: ConsumerOptions["channels"]): string | string[] | undefined {
  if (!Array.isArray(channels)) return nameOf(channels) as string | undefined;
  return channels.map((given: ChannelGiven | ChannelStart) => {
    const channel = nameOf(given);
    // Anything else is refused as the name of a channel.
    if (Object.prototype.toString.call(channel) !== "[object Object]") return channel as string;
    const start = channel as ChannelStart;
    knownOptions("a channel", start, ["name", "from"]);
    return start.name;
  });
}

/** The name of a typed channel. Anything else as it is. */
function nameOf<Given>(channel: Given): Given | string {
  return definitionOf(channel)?.name ?? channel;
}

/** The options, with the channels that follow from a table of handlers. */
export function withChannels<Options extends ConsumerOptions>(o: Options): Options {
  const channels = o.channels === undefined ? insideOf(o.handle)?.channels : undefined;
  return channels === undefined || channels.length === 0 ? o : { ...o, channels };
}

/**
 * Checks the options.
 *
 * @param subclass Whether a class may still give what is missing, as `id`, `channels` and a handler.
 */
export function checkOptions(o: ConsumerOptions, subclass: boolean = false): void {
  o = withChannels(o);
  if (o.id !== undefined) consumerName(o.id);
  if (o.handle !== undefined && o.handleBatch !== undefined) throw both(o.id);
  // A subclass may have either handler as a method.
  const batches = o.handleBatch !== undefined ||
    subclass && (o.batchSize !== undefined || o.aroundBatch !== undefined);
  completeOptions(o, "unnamed", o.channels === undefined ? ["unnamed"] : o.channels, {
    handle: batches ? o.handle : o.handle ?? (() => {}),
    handleBatch: batches ? o.handleBatch ?? (() => {}) : undefined,
  });
  // What is wrong is told before what is missing.
  if (!subclass) {
    completeOptions(o, o.id, o.channels, { handle: o.handle, handleBatch: o.handleBatch });
  }
}

/** Checks all of a consumer's options and fills in the defaults. */
export function completeOptions(
  o: ConsumerOptions,
  id: unknown,
  channels: ConsumerOptions["channels"],
  handlers: GivenHandlers,
): CheckedOptions {
  const values = checkedValues("a consumer", consumerRules, o);
  const consumer = consumerName(id);
  const { handle, handleBatch } = handlers;
  if (handle === undefined && handleBatch === undefined) {
    throw new HarkError("BAD_OPTION", `consumer "${consumer}" has no handler`, {
      remedy:
        "Give handle(notification) or handleBatch(notifications) as an option, or as a method of a subclass.",
    });
  }
  if (handle !== undefined && handleBatch !== undefined) {
    throw both(consumer);
  }
  const names = channelNames(
    namesOf(channels),
    o.id === undefined ? undefined : `consumer ${show(o.id)}`,
  );
  const around = aroundOf("around", o.around, handle);
  const aroundBatch = aroundOf("aroundBatch", o.aroundBatch, handleBatch);
  const sharing = checkedLimits(o.limits, consumer);
  if (sharing !== undefined && handleBatch !== undefined) {
    bad("limits", o.limits, "Give it only together with handle.");
  }
  if (o.batchSize !== undefined && handleBatch === undefined) {
    bad("batchSize", o.batchSize, "Give it only together with handleBatch.");
  }
  const { pageSize: rows, pageBytes: bytes, lease, transactional, timeout } = values;
  const block = values.onFailure === "block";
  return {
    ...values,
    identity: {
      consumer,
      owner: crypto.randomUUID(),
      lease,
      channels: names.toSorted(),
      filter: filterText(o.filter),
      transactional,
    },
    partitionsGiven: o.partitions !== undefined,
    start: startValues(o.from === undefined ? "beginning" : o.from),
    channelStarts: startsOf(channels),
    limits: { rows, bytes, scanned: Math.max(scannedPerPage, rows) },
    sharing,
    readAhead: o.readAhead ?? Math.max(sharing === undefined ? values.readAhead : 20_000, rows),
    batchSize: handleBatch === undefined ? 1 : values.batchSize,
    acknowledgeCount: values.acknowledgeInterval === 0 ? 1 : values.acknowledgeCount,
    ...retryPolicy(o.retry),
    maxAttempts: o.maxAttempts ?? (block ? Infinity : values.maxAttempts),
    block,
    random: Math.random,
    handling: {
      handle: handle && withAround(decoding(handle, names, channels), around),
      handleBatch: handleBatch && withAround(decodingBatch(handleBatch, channels), aroundBatch),
      isWaitedFor: isWaitedFor(handleBatch),
      timeout,
    },
    hooks: { onHandled: o.onHandled, onError: o.onError, onDeadLetter: o.onDeadLetter },
  };
}

function both(id: string | undefined): HarkError {
  const what = id === undefined ? "a consumer" : `consumer ${show(id)}`;
  return new HarkError("BAD_OPTION", `${what} has both handle and handleBatch`, {
    remedy: "Give only one of them.",
  });
}

/** The functions around a handler. Refused for a handler of the other kind. */
function aroundOf(name: string, value: unknown, handler: unknown): readonly AnyAround[] {
  const list = aroundList(name, value);
  if (list.length > 0 && handler === undefined) {
    bad(name, value, `Give it only together with ${name === "around" ? "handle" : "handleBatch"}.`);
  }
  return list;
}

/** What each field of a filter is for the database, as JSON. Throws for what it cannot be. */
const filterParts: Readonly<Record<keyof ConsumerFilter, (value: unknown) => string | null>> = {
  key(value) {
    const keys: readonly unknown[] = Array.isArray(value) ? value : [value];
    if (keys.length === 0 || keys.some((key) => wordOf(key) === undefined)) {
      bad("filter.key", value, "Give a key, or a list of at least one key.");
    }
    return JSON.stringify(keys.map((key) => keyText(key, "filter.key")));
  },
  payload: (value) => payloadText(value, "filter.payload"),
  headers(value) {
    if (value === null) bad("filter.headers", null, "Give an object, or leave it out.");
    return headersText(value, "filter.headers");
  },
};

/** The filter in the form that the database stores: JSON text with the keys as a list. */
function filterText(filter: ConsumerFilter | undefined): string | null {
  if (filter === undefined || filter === null) return null;
  knownOptions("filter", filter, Object.keys(filterParts));
  const parts = Object.entries(filterParts).flatMap(([name, textOf]) => {
    const value = filter[name as keyof ConsumerFilter];
    return value === undefined ? [] : [`"${name}":${textOf(value)}`];
  });
  if (parts.length === 0) bad("filter", filter, "Give a key, a payload or headers to match.");
  return `{${parts.join(",")}}`;
}

/** The starts of single channels, as hark.register takes them: JSON text, or null. */
function startsOf(channels: ConsumerOptions["channels"]): string | null {
  if (!Array.isArray(channels)) return null;
  const starts = channels
    .filter((one) => one !== null && typeof one === "object" && definitionOf(one) === undefined)
    .map((channel: ChannelStart) => {
      const from: LogPlace | undefined = channel.from;
      if (from === undefined) {
        bad(`from of channel "${channel.name}"`, from, "Give a start, or leave from out.");
      }
      const [kind, id, time] = startValues(from);
      if (kind === "position") {
        bad(`from of channel "${channel.name}"`, from, "A channel begins at an id or a time.");
      }
      return { channel: channel.name, kind, id, time };
    });
  return starts.length === 0 ? null : JSON.stringify(starts);
}
