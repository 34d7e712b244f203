/**
 * Reading without being registered: the position is the caller's process.
 *
 * @module
 */

import { getLogger } from "@logtape/logtape";
import { bad, channelNames, knownOptions, wholeNumber } from "../check.ts";
import { backoff, Bell, pause } from "../database/bell.ts";
import { connectionsOf } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { Session } from "../database/session.ts";
import { isPassing, messageOf, translate, translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import { Notification } from "./notification.ts";
import { type Page, pageColumns, type PageLimits, parsePage, spanWorthStoring } from "./page.ts";
import { type StartFrom, startValues } from "./start.ts";

const logger = getLogger(["hark", "subscribe"]);

/** Options of {@linkcode subscribe}. Durations are milliseconds. */
export interface SubscribeOptions {
  /** Where to begin. @default {"now"} */
  readonly from?: StartFrom;
  /** Ends the iteration when it aborts. */
  readonly signal?: AbortSignal;
  /** How often to look without being woken. @default {3000} */
  readonly pollInterval?: number;
  /** The most notifications read at a time. @default {500} */
  readonly pageSize?: number;
  /** The most bytes read at a time, beyond one notification. @default {8388608} */
  readonly pageBytes?: number;
}

const readSql = `select ${pageColumns}
from (select hark.window_open($1::text::hark.position) as "position" offset 0) w,
lateral hark.window_read(w."position",
 array(select pg_catalog.json_array_elements_text($2::text::json)),
 $3::integer, $4::bigint, $5::integer, $6::text::pg_snapshot) r`;

const readAllSql = readSql.replace(
  /array\(.*\)\),/,
  "case when $2::text is null then null::text[] end,",
);

/**
 * Reads channels without registering a consumer: for a live view, a tail, a stream to a browser. It
 * loses nothing while the iteration lives, reconnects included; where the server crashes, the window
 * in hand is repeated. What must survive the process is a {@linkcode Consumer}'s work.
 *
 * Reading goes on as fast as the loop's body takes it; memory holds one page.
 *
 * @param channels One or several names; null reads every channel.
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
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export async function* subscribe<Payload = any>(
  db: Queryable,
  channels: string | readonly string[] | null,
  options: SubscribeOptions = {},
): AsyncGenerator<Notification<Payload>, void, undefined> {
  knownOptions("subscribe", options, ["from", "signal", "pollInterval", "pageSize", "pageBytes"]);
  if (typeof (db as Queryable | undefined)?.query !== "function") {
    bad("db", db, "Give a Database, a pg.Client or Pool, a PGlite, or a wrapped driver.");
  }
  const names = channels === null ? null : channelNames(channels);
  const rows = wholeNumber("pageSize", options.pageSize, 500, 1, 100_000);
  const bytes = wholeNumber("pageBytes", options.pageBytes, 8 * 1024 * 1024, 1);
  const pollInterval = wholeNumber("pollInterval", options.pollInterval, 3000, 1, 86_400_000);
  const start = startValues(options.from ?? "now");
  const { signal } = options;
  if (signal?.aborted) return;

  const connections = connectionsOf(db);
  const open = async () => connections === undefined ? db : await connections.session();
  const closed = new AbortController();
  const over = signal === undefined ? closed.signal : AbortSignal.any([signal, closed.signal]);
  let session: Queryable | undefined;
  let detach = () => {};
  const release = async () => {
    detach();
    if (session instanceof Session) await session.close();
  };
  // Also while the loop's body runs, when nothing of this function does.
  const forget = connections?.beforeClose(async () => {
    closed.abort();
    await release();
  });
  try {
    session = await open();
    await requireSchema(session);
    const bell = new Bell();
    const listener = await connections?.listener();
    const detached = [listener?.attach(bell, names), listener?.attachControl(bell, "")];
    detach = () => detached.forEach((one) => one?.());
    const reader = new Reader(names, { rows, bytes, scanned: Math.max(20_000, rows) });
    await reader.start(session, start);
    let failures = 0;
    // As it was before the window was opened: what rang since, in whatever page, is not in the window.
    let rung = bell.count;
    let opening = true;
    // When delayed notifications are to be looked at again, also while there is no end of others.
    let dueAt = 0;
    while (!over.aborted) {
      let page: Page;
      if (opening) rung = bell.count;
      try {
        if (session instanceof Session && !session.alive) {
          session = await open();
          await session.query("select hark.rebase()");
        }
        page = await reader.read(session);
        opening = page.windowEnd;
        failures = 0;
      } catch (error) {
        if (over.aborted) break;
        const reason = translate(error);
        if (!isPassing(reason)) throw reason;
        if (reason.code === "WINDOW_LOST") reader.lost = opening = true;
        else if (session instanceof Session) await session.close();
        const wait = backoff(++failures, 50, 5000);
        logger.warn("Reading was interrupted: {reason}", { reason: messageOf(reason) });
        await pause(wait, over);
        continue;
      }
      for (const row of page.rows) {
        yield new Notification<Payload>(row);
        if (over.aborted) return;
      }
      if (!page.windowEnd) continue;
      const idle = page.rows.length === 0;
      if (idle || performance.now() >= dueAt) {
        dueAt = performance.now() + await deliverDue(session, pollInterval);
      }
      const wait = dueAt - performance.now();
      if (idle && wait > 0) await bell.wait(rung, wait, over);
    }
  } finally {
    forget?.();
    await release();
  }
}

/** Puts what is due into the log; gives how long to wait for the next, at most `longest` ms. */
async function deliverDue(session: Queryable, longest: number): Promise<number> {
  try {
    const { rows } = await session.query("select moved, next_ms from hark.deliver_due()");
    const { moved, next_ms: next } = rows[0];
    if (moved > 0) return 0;
    // Rounded up: a timer that ends too early would have to be set again.
    return next === null ? longest : Math.min(longest, Math.max(0, Math.ceil(Number(next))));
  } catch (error) {
    const reason = translate(error);
    if (!isPassing(reason)) throw reason;
    // Where the connection is gone, reading finds that out and says so.
    return Math.min(longest, 250);
  }
}

/** A position kept in memory. */
class Reader {
  readonly #channels: string | null;
  readonly #limits: PageLimits;
  #started = "";
  /** Between windows, behind a fence that has reached the disk: it outlives a crash of the server. */
  #safe = "";
  #position = "";
  /** A window that is read to its end, to be advanced past before the next page. */
  #ended: { readonly page: Page; readonly store: boolean } | undefined;
  #dirty = false;
  /** The server's timeline, and its clock when the last fence was taken there. */
  #anchor: { readonly timeline: string; readonly time: string } | undefined;
  #waymarkedAt = performance.now();
  /** Set where the server refuses the position: it has been through a crash or a fail-over. */
  lost = false;

  constructor(channels: string[] | null, limits: PageLimits) {
    this.#channels = channels === null ? null : JSON.stringify(channels);
    this.#limits = limits;
  }

  async start(session: Queryable, start: unknown[]): Promise<void> {
    await translated(async () => {
      await session.query("select hark.rebase()");
      await session.query("select hark.waymark()");
      const { rows } = await session.query(
        `select hark.start_position($1::text, $2::bigint, $3::text::timestamptz)::text as "position",
          pg_current_snapshot()::text as started`,
        start,
      );
      await this.#fence(session);
      this.#safe = this.#position = rows[0].position;
      this.#started = rows[0].started;
    });
  }

  /** Reads the next page: of the window in hand, or of a new one. */
  async read(session: Queryable): Promise<Page> {
    return await translated(async () => {
      if (this.lost) await this.#startOver(session);
      await this.#advance(session);
      const { rows } = await session.query(this.#channels === null ? readAllSql : readSql, [
        this.#position,
        this.#channels,
        this.#limits.rows,
        this.#limits.bytes,
        this.#limits.scanned,
        this.#started,
      ]);
      const page = parsePage(rows);
      this.#position = page.position;
      if (page.rows.length > 0) this.#dirty = true;
      if (page.windowEnd) {
        this.#ended = { page, store: this.#dirty || page.span > spanWorthStoring };
      }
      return page;
    });
  }

  async #advance(session: Queryable): Promise<void> {
    if (this.#ended === undefined) return;
    if (this.#ended.store) {
      await this.#fence(session);
      const { rows } = await session.query(
        `select hark.window_advance($1::text::hark.position)::text as "position"`,
        [this.#position],
      );
      this.#safe = rows[0].position;
    }
    this.#forgetWindow();
  }

  /**
   * After a crash the window in hand means nothing any more, but the position before it was on the
   * disk: it is good without the incarnation it names. After a fail-over even that may rest on what
   * the new primary never got: then reading begins again at the last waymark before, which it has.
   */
  async #startOver(session: Queryable): Promise<void> {
    const { rows } = await session.query("select hark.timeline() as timeline");
    if (rows[0].timeline === this.#anchor?.timeline) {
      this.#safe = this.#safe.replace(/,[0-9a-f-]*\)$/, ",)");
    } else {
      await this.start(session, ["time", null, this.#anchor?.time]);
    }
    this.#forgetWindow();
    this.lost = false;
  }

  #forgetWindow(): void {
    this.#position = this.#safe;
    this.#ended = undefined;
    this.#dirty = false;
  }

  /**
   * A transaction whose number is given out after the window was opened and which ends before the next
   * one is; it reaches the disk, so that a crash cannot give those numbers out again.
   */
  async #fence(session: Queryable): Promise<void> {
    const { rows } = await session.query(
      `select pg_catalog.set_config('synchronous_commit', 'on', true),
        pg_catalog.pg_logical_emit_message(true, 'hark', 'fence'),
        hark.timeline() as timeline, clock_timestamp()::text as time`,
    );
    this.#anchor = rows[0];
    if (performance.now() - this.#waymarkedAt > 60_000) {
      this.#waymarkedAt = performance.now();
      await session.query("select hark.waymark()");
    }
  }
}
