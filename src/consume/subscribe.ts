/**
 * Reading without registering a consumer: the position exists only in the caller's process.
 *
 * @module
 */

import { typedAmong } from "../channels/consume.ts";
import { decode } from "../channels/decode.ts";
import type { AnyChannel, ChannelOutput, Definition } from "../channels/kind.ts";
import { getLogger } from "../log/logger.ts";
import { abortSignal, channelNames } from "../check.ts";
import { Bell, pause } from "../database/bell.ts";
import { CommonQuestion } from "../database/common.ts";
import { connectionsOf } from "../database/database.ts";
import { ownConnection, type Queryable, requireQueryable } from "../database/queryable.ts";
import { isPassing, messageOf, translate } from "../database/translate.ts";
import { checkedValues } from "../option_rules.ts";
import { namesOf } from "./check_options.ts";
import { Link } from "./link.ts";
import { Notification, setProblem } from "./notification.ts";
import { subscribeRules } from "./option_table.ts";
import type { ChannelGiven } from "./options.ts";
import { EphemeralReader } from "./read/ephemeral_reader.ts";
import type { Page } from "./read/page.ts";
import { startValues } from "./start.ts";
import type { SubscribeOptions } from "./subscribe_options.ts";
import { pace } from "./read/pace.ts";
import { Wakeup } from "./read/wakeup.ts";
import type { Standing } from "./state/context.ts";

const logger = getLogger(["hark", "subscribe"]);

/**
 * Reads channels without registering a consumer. Use it for a live view, a tail, or a stream to a
 * browser. While the iteration lives, it loses nothing, even when it reconnects. If the server
 * crashes, the window being read is repeated. For work that must survive the process, use a
 * {@linkcode Consumer}.
 *
 * The iteration reads as fast as the loop body takes notifications. Memory holds one page.
 *
 * @param channels One or several names or typed channels. Null reads every channel. A payload
 * that does not fit a typed channel is yielded too: `problem` says why, and `payload` throws.
 * @throws {HarkError} As {@linkcode Consumer.run}.
 * @example
 * ```ts
 * import { connect, subscribe } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for await (const notification of subscribe(db, "orders", { from: "beginning" })) {
 *   console.log(notification.id, notification.payload);
 * }
 * ```
 */
export function subscribe<Typed extends AnyChannel>(
  db: Queryable,
  channels: Typed | readonly Typed[],
  options?: SubscribeOptions,
): AsyncGenerator<Notification<ChannelOutput<Typed>>, void, undefined>;
/** With the names of channels. */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export function subscribe<Payload = any>(
  db: Queryable,
  channels: ChannelGiven | readonly ChannelGiven[] | null,
  options?: SubscribeOptions,
): AsyncGenerator<Notification<Payload>, void, undefined>;
export async function* subscribe(
  db: Queryable,
  channels: ChannelGiven | readonly ChannelGiven[] | null,
  options: SubscribeOptions = {},
): AsyncGenerator<Notification, void, undefined> {
  const { follow, pollInterval, pageSize: rows, pageBytes: bytes } = checkedValues(
    "subscribe",
    subscribeRules,
    options,
  );
  requireQueryable(db);
  const names = channels === null ? null : channelNames(namesOf(channels));
  const typed = typedAmong(channels);
  const start = startValues(options.from ?? "now");
  const { onReady } = options;
  const signal = abortSignal("signal", options.signal);
  if (signal?.aborted) return;

  const closed = new AbortController();
  const over = signal === undefined ? closed.signal : AbortSignal.any([signal, closed.signal]);
  let link: Link | undefined;
  let waking: Wakeup | undefined;
  let detach = () => {};
  const release = async () => {
    detach();
    const session = ownConnection(link?.session);
    if (waking !== undefined && session?.alive) await farewell(waking, session);
    await link?.close();
  };
  // The database may be closed while the loop body runs. This function is suspended then, so only
  // this callback can release the session.
  const forget = connectionsOf(db)?.beforeClose(async () => {
    closed.abort();
    await release();
  });
  try {
    link = await Link.open(db);
    const bell = new Bell();
    const nudged = new Bell(bell);
    const listener = follow ? await link.connections?.listener() : undefined;
    if (listener !== undefined) {
      if (names !== null) {
        waking = new Wakeup(bell, listener, crypto.randomUUID(), names, pollInterval);
      }
      // A reader of all channels hears what publishers tell readers of single channels.
      const heard = waking?.heard ?? new Bell(bell);
      const detached = [listener.attach(heard, names), listener.attachControl(nudged, "")];
      detach = () => detached.forEach((end) => end());
    }
    const reader = new EphemeralReader(names, {
      rows,
      bytes,
      scanned: Math.max(20_000, rows),
    });
    await reader.start(link.session, start);
    onReady?.();
    // The bell's count before the window was opened. Rings after that, during any of its pages,
    // announce notifications outside the window.
    let rung = bell.count;
    let opening = true;
    // When to look at delayed notifications again, even if other notifications never end.
    let dueAt = 0;
    let nudges = -1;
    const standing = { busyAt: performance.now(), found: 0 };
    while (!over.aborted) {
      let page: Page;
      if (opening) rung = bell.count;
      try {
        const session = link.alive();
        page = await reader.read(ownConnection(session)?.reading ?? session);
        opening = page.windowEnd;
        link.worked();
        standing.found += page.rows.length;
        if (page.rows.length > 0) standing.busyAt = performance.now();
      } catch (error) {
        if (over.aborted) break;
        await link.failed(error, over, (reason) => {
          if (reason.code === "WINDOW_LOST") reader.lost = opening = true;
          logger.warn("Reading was interrupted: {reason}", { reason: messageOf(reason) });
        });
        continue;
      }
      for (const row of page.rows) {
        const notification = new Notification(row);
        const definition = typed.get(row.channel);
        if (definition !== undefined) await decoded(definition, notification);
        yield notification;
        if (over.aborted) return;
      }
      if (!page.windowEnd) continue;
      if (!follow) return;
      const idle = page.rows.length === 0;
      if (idle && nudged.count !== nudges || performance.now() >= dueAt) {
        nudges = nudged.count;
        dueAt = await deliverDue(link.session, pollInterval);
      }
      const look = Math.min(dueAt, await tend(link.session, waking, standing));
      const now = performance.now();
      const wait = Math.min(
        look - now,
        names === null ? pace(now - standing.busyAt, pollInterval) : Infinity,
      );
      if (idle && wait > 0) await bell.wait(rung, wait, over);
    }
  } finally {
    forget?.();
    await release();
  }
}

/** Decodes the payload. If that fails, the notification says why. */
async function decoded(definition: Definition, notification: Notification): Promise<void> {
  if (notification.problem !== undefined) return;
  try {
    await decode(definition, notification);
  } catch (error) {
    setProblem(notification, messageOf(error));
  }
}

/**
 * Lets the reader sleep or keeps it awake. Returns when to look next at the latest, by
 * `performance.now()`.
 */
async function tend(
  session: Queryable,
  waking: Wakeup | undefined,
  standing: Pick<Standing, "busyAt" | "found">,
): Promise<number> {
  if (waking === undefined) return Infinity;
  try {
    await waking.tend(session, {
      open: true,
      full: false,
      drained: true,
      commitTime: undefined, // a subscription commits nothing
      ...standing,
    });
  } catch (error) {
    const reason = translate(error);
    if (!isPassing(reason)) throw reason;
    return performance.now() + 100; // the next read finds the cause
  }
  return waking.due({ open: true, full: false });
}

/**
 * Removes the request to be woken. A server that does not answer gets one second only: the request
 * expires by itself.
 */
async function farewell(waking: Wakeup, session: Queryable): Promise<void> {
  const over = new AbortController();
  const leaving = waking.leave(session).catch((error) => {
    logger.debug("Could not remove the wake-up registration: {reason}", {
      reason: messageOf(error),
    });
  }).finally(() => over.abort());
  await Promise.race([leaving, pause(1000, over.signal)]);
}

const delivering = new CommonQuestion(async (session) => {
  const { rows: [row] } = await session.query("select moved, next_ms from hark.deliver_due()");
  return {
    moved: Number(row.moved),
    nextMs: row.next_ms === null ? Infinity : Number(row.next_ms),
  };
});

/**
 * Moves due delayed notifications into the log. Returns when to look for the next one, at most
 * `longest` ms later. Subscriptions with nothing to do look at the same times, so that they ask together.
 */
async function deliverDue(session: Queryable, longest: number): Promise<number> {
  try {
    const { moved, nextMs } = await delivering.ask(session);
    const now = performance.now();
    if (moved > 0) return now;
    // Rounded up: a timer that ends too early would have to be set again.
    if (nextMs < longest) return now + Math.max(0, Math.ceil(nextMs));
    return longest < 1000 ? now + longest : (Math.floor(now / longest) + 1) * longest;
  } catch (error) {
    const reason = translate(error);
    if (!isPassing(reason)) throw reason;
    // If the connection is lost, the next read finds that out and reports it.
    return performance.now() + Math.min(longest, 250);
  }
}
