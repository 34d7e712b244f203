/**
 * The pages of the log that a reader without a registration reads, one after the other.
 *
 * @module
 */

import { Joined } from "../aborted.ts";
import { getLogger } from "../log/logger.ts";
import { backoff, Bell, pause } from "../database/bell.ts";
import { connectionsOf } from "../database/database.ts";
import { ownConnection, type Queryable } from "../database/queryable.ts";
import { isPassing, messageOf, translate } from "../database/translate.ts";
import { Link } from "./link.ts";
import { DelayedLook } from "./read/delayed.ts";
import { EphemeralReader } from "./read/ephemeral_reader.ts";
import { LookPace, LookTime } from "./read/look_pace.ts";
import { leastOfAll, unwokenPace } from "./read/pace.ts";
import type { Page, PageRow } from "./read/page.ts";
import { replicaOf } from "./read/replica.ts";
import { Seat } from "./read/seat.ts";
import { Wakeup } from "./read/wakeup.ts";
import type { StartValues } from "./start.ts";
import type { Standing } from "./state/context.ts";
import type { SubscriptionGap, SubscriptionResume } from "./subscribe_options.ts";

const logger = getLogger(["hark", "subscribe"]);

/** How to read. Durations are milliseconds. */
export interface PagesOptions {
  readonly start: StartValues;
  /** Whether to go on with what is published later. */
  readonly follow: boolean;
  readonly pollInterval: number;
  /** The most rows and bytes of a page. */
  readonly rows: number;
  readonly bytes: number;
  readonly signal: AbortSignal | undefined;
  /** Rings whenever the log is to be looked at. @default a bell of its own */
  readonly bell?: Bell;
  /**
   * Whether windows end at stored marks only. Other readers end theirs at the same ones then.
   *
   * @default {false}
   */
  readonly stored?: boolean;
  readonly onGap: (gap: SubscriptionGap) => void;
  /** Called when reading has begun, with what became of a position. */
  readonly onStart?: (resumed: SubscriptionResume | undefined) => void;
}

/** A page that was read. At the end of the log it has no rows. */
export interface ReadPage {
  readonly rows: readonly PageRow[];
  /** Whether all is read that had committed when the window was opened. */
  readonly windowEnd: boolean;
  /** The bell's count before the window was opened. */
  readonly rung: number;
  /** What read it. */
  readonly reader: EphemeralReader;
  /** Aborts when no more pages come. */
  readonly over: AbortSignal;
}

/**
 * Reads channels from a start. While the iteration lives, it loses nothing, even when it reconnects.
 *
 * @param names The channels. Null reads every channel.
 */
export async function* pages(
  db: Queryable,
  names: string[] | null,
  options: PagesOptions,
): AsyncGenerator<ReadPage, void, undefined> {
  const { follow, pollInterval, rows, bytes, signal, onGap } = options;
  if (signal?.aborted) return;

  const closed = new AbortController();
  using either = new Joined(closed.signal, ...signal === undefined ? [] : [signal]);
  const over = either.signal;
  let link: Link | undefined;
  let waking: Wakeup | undefined;
  let seat: Seat | undefined;
  let detach = () => {};
  const release = async () => {
    detach();
    seat?.close();
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
    const replica = replicaOf(db);
    link = await Link.open(db, replica?.connections);
    const bell = options.bell ?? new Bell();
    const nudged = new Bell(bell);
    // On a replica one look for all readers rings their bells. They ask nothing of the primary.
    if (replica !== undefined) detach = replica.attach(bell);
    const listener = follow && replica === undefined
      ? await link.connections?.listener()
      : undefined;
    if (listener !== undefined) {
      if (names !== null) {
        waking = new Wakeup(bell, listener, crypto.randomUUID(), names, pollInterval);
      }
      // A reader of all channels hears what publishers tell readers of single channels.
      const heard = waking?.heard ?? new Bell(bell);
      const detached = [
        listener.bells.attach(heard, names),
        listener.bells.attachControl(nudged, ""),
        ...waking === undefined ? [] : [waking.renewByHeartbeat()],
      ];
      detach = () => detached.forEach((end) => end());
    }
    const limits = { rows, bytes, scanned: Math.max(20_000, rows) };
    const marks = replica ?? (options.stored ? "stored" : "private");
    const reader = new EphemeralReader(names, limits, undefined, marks);
    const resumed = await begun(reader, link, options, over, replica !== undefined);
    if (over.aborted) return;
    if (resumed?.gap !== undefined) onGap(resumed.gap);
    options.onStart?.(resumed);
    // All that read to the newest mark, at the end of the log, share a reader.
    const alone = !follow || options.stored === true || replica !== undefined;
    seat = new Seat(reader, bell, { channels: names, limits, alone });
    const delayed = new DelayedLook();
    const looks = new LookTime();
    const lookPace = new LookPace();
    const standing = { busyAt: performance.now(), found: 0, lookTime: 0 };
    while (!over.aborted) {
      let page: Page;
      const { resuming } = reader;
      try {
        const session = link.alive();
        const asked = performance.now();
        page = await seat.read(session);
        // Else another reader of the edge has looked.
        if (seat.lookedAt >= asked) looks.note(performance.now() - asked);
        standing.lookTime = looks.least;
        const gap = reader.takeGap();
        if (gap !== undefined) onGap(gap);
        link.worked();
        standing.found += page.rows.length;
        if (page.rows.length > 0) standing.busyAt = performance.now();
      } catch (error) {
        if (over.aborted) break;
        await link.failed(error, over, (reason) => {
          if (reason.code === "WINDOW_LOST") reader.lost = true;
          logger.warn("Reading was interrupted: {reason}", { reason: messageOf(reason) });
        });
        continue;
      }
      yield {
        rows: page.rows,
        windowEnd: page.windowEnd && !resuming,
        reader,
        rung: seat.rung,
        over,
      };
      if (over.aborted) return;
      if (!page.windowEnd || resuming) continue;
      if (!follow) return;
      const idle = page.rows.length === 0;
      if (replica !== undefined) {
        if (idle) await bell.wait(seat.rung, Infinity, over);
        continue;
      }
      await delayed.tend(link.session, nudged.count, pollInterval);
      for (;;) {
        const look = Math.min(
          delayed.due,
          await tend(link.session, waking, { ...standing, lookedAt: seat.lookedAt }, over),
        );
        const now = performance.now();
        const isHeard = listener?.live === true;
        const unwoken = names !== null && isHeard ? Infinity : Math.min(
          pollInterval,
          unwokenPace(names === null, idle, now - standing.busyAt, lookPace.next(standing, now)),
        );
        const wait = Math.min(look, seat.lookedAt + unwoken) - now;
        if (wait <= 0 || over.aborted) break;
        if (await bell.wait(seat.rung, wait, over)) {
          // Publishers that wake others ring too, perhaps all the time.
          if (names === null) await pause(seat.lookedAt + leastOfAll - performance.now(), over);
          break;
        }
        // What lets it sleep tells by the bell whether to look.
        if (waking === undefined || !isHeard || performance.now() >= delayed.due) break;
      }
    }
  } finally {
    forget?.();
    await release();
  }
}

/** Starts the reader. A replica that has not replayed as far as its position is waited for. */
async function begun(
  reader: EphemeralReader,
  link: Link,
  { start, follow }: PagesOptions,
  over: AbortSignal,
  onReplica: boolean,
): Promise<SubscriptionResume | undefined> {
  for (let attempt = 1; !over.aborted; attempt++) {
    try {
      return await reader.start(link.alive(), start, start[0] === "now" || !follow);
    } catch (error) {
      const reason = translate(error);
      // A replica cancels what keeps it from replaying.
      const isCancelled = onReplica && reason.sqlState === "40001";
      const isBehind = reason.code === "REPLICA_BEHIND" && start[0] === "position";
      if (!isCancelled && !isBehind) throw reason;
      if (attempt === 1) {
        logger.warn("Reading begins when the replica is there: {reason}", {
          reason: messageOf(reason),
        });
      }
      await pause(backoff(attempt, 50, 1000), over);
    }
  }
  return undefined;
}

/**
 * Lets the reader sleep or keeps it awake. Returns when to look next at the latest, by
 * `performance.now()`.
 */
async function tend(
  session: Queryable,
  waking: Wakeup | undefined,
  standing: Pick<Standing, "busyAt" | "found" | "lookTime" | "lookedAt">,
  over: AbortSignal,
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
    await pause(100, over);
    return performance.now(); // the next read finds the cause
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
