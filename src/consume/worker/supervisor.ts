/**
 * Keeps a consumer served, over as many connections as necessary.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import { Bell } from "../../database/bell.ts";
import { connectionsOf } from "../../database/database.ts";
import { type OwnConnection, ownConnection, type Queryable } from "../../database/queryable.ts";
import { messageOf, translate, translated } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { ObservedRun } from "../../observe/run.ts";
import { seam } from "../../observe/seam.ts";
import { requireTransactions } from "../dispatch/transactions.ts";
import { Membership } from "../lease/membership.ts";
import { processName } from "../lease/process_name.ts";
import { Link, rebase } from "../link.ts";
import { Wakeup } from "../read/wakeup.ts";
import type { CheckedOptions, Progress, Run, Tally } from "../state/context.ts";
import { parsePosition } from "../state/parse_outside.ts";
import type { StartValues } from "../start.ts";
import type { Sleep } from "./slumber.ts";
import { Entrance } from "./entrance.ts";
import { Worker } from "./worker.ts";

const logger = getLogger(["hark", "consumer"]);

/** How long a stopping worker tries to reconnect, to store what is handled, in milliseconds. */
const storeTimeout = 5000;

/** What a drain has done that found other workers at all partitions. */
const busy: Tally = { handled: 0, failed: 0, dead: 0, left: 0, more: false, end: "busy" };

/** A drain that is to end at once when its time is over, also in the middle of a statement. */
export interface Cutting {
  /** Aborts when the time is over. */
  readonly signal: AbortSignal;
  /** How far the drain is. Undefined before it has begun. */
  progress?: Progress;
}

/**
 * Registers a consumer and serves it until stopped or drained. The first connection must succeed.
 * Later connections are tried for as long as necessary.
 */
export async function supervise(
  db: Queryable,
  options: CheckedOptions,
  signals: Pick<
    Run,
    "stopping" | "abandon" | "drain" | "limit" | "waits" | "ready" | "wake" | "bell"
  >,
  cutting?: Cutting,
): Promise<Tally> {
  // Before registration: the consumer must not be registered as something it cannot be.
  if (options.identity.transactional) requireTransactions(db);
  const { consumer, channels, owner } = options.identity;
  const { stopping, abandon, drain } = signals;
  const observed = new ObservedRun(consumer, processName(), db);
  seam.runs.add(observed);
  const detach: (() => void)[] = [() => seam.runs.delete(observed)];
  let link: Link | undefined;
  let entrance: Entrance | undefined;
  let session: OwnConnection | undefined;
  try {
    session = connectionsOf(db)?.lane();
    const cut = () => ownConnection(link?.session ?? session)?.cut();
    cutting?.signal.addEventListener("abort", cut);
    detach.push(() => cutting?.signal.removeEventListener("abort", cut));
    if (!signals.waits && !stopping.aborted) {
      entrance = new Entrance(db, options, session ?? db, cutting?.signal);
    }
    const first = await entrance?.enter();
    if (first === "busy") return busy;
    link = await Link.open(db, undefined, session, first !== undefined);
    const listener = drain ? undefined : await link.connections?.listener();
    await rebase(link.session);
    if (first !== "entered") await register(link.session, options);
    if (first === "register" && await entrance!.enter() === "busy") return busy;
    const { wake, bell } = signals;
    const waking = listener === undefined
      ? undefined
      : new Wakeup(bell, listener, owner, channels, options.pollInterval);
    const control = new Bell(wake);
    const run: Run = { ...signals, control, listener, observed, waking };
    if (listener !== undefined) {
      detach.push(
        listener.bells.attach(waking!.heard, channels),
        listener.bells.attachControl(run.control, consumer),
      );
    }
    const ring = () => wake.ring();
    for (const signal of [stopping, abandon]) {
      signal.addEventListener("abort", ring);
      detach.push(() => signal.removeEventListener("abort", ring));
    }
    const membership = entrance?.membership ?? new Membership(options.identity, db, listener);
    await using worker = new Worker(db, options, run, membership, (on) => register(on, options));
    if (cutting !== undefined) {
      cutting.progress = {
        tally: () => {
          const { tally, left } = worker;
          return { ...tally, left: Math.max(tally.left, left), more: true };
        },
        unstored: () => worker.unstored,
      };
      const cutWorker = () => worker.cut();
      cutting.signal.addEventListener("abort", cutWorker);
      detach.push(() => cutting.signal.removeEventListener("abort", cutWorker));
    }
    let storeBy = Infinity;
    // If interrupted while stopping, the worker reconnects for a while if handled notifications are
    // not stored yet.
    while (
      !stopping.aborted || (worker.unstored > 0 || worker.isAsleep) && performance.now() < storeBy
    ) {
      if (stopping.aborted) storeBy = Math.min(storeBy, performance.now() + storeTimeout);
      observed.turn(stopping.aborted);
      try {
        const sleep = await worker.serve(link.alive());
        if (sleep === undefined) break;
        await slumber(link, run, sleep, consumer);
      } catch (error) {
        observed.connected = false;
        if (abandon.aborted && worker.unstored === 0) break;
        if (cutting?.signal.aborted || drain && isLost(translate(error))) throw translate(error);
        await link.failed(error, stopping.aborted ? abandon : stopping, (reason, wait) => {
          logger.warn("{consumer} was interrupted, trying again in {wait} ms: {reason}", {
            consumer,
            wait,
            reason: messageOf(reason),
          });
        });
      }
    }
    if (worker.unstored > 0) throw notStored(consumer, worker.unstored);
    return worker.tally;
  } finally {
    for (const end of detach) end();
    await entrance?.close();
    await link?.close();
    // No link was opened for a drain that is busy.
    await session?.close();
  }
}

/** Closes what is not needed, and waits until the worker is woken or something is due. */
async function slumber(
  link: Link,
  { wake, waking, observed }: Run,
  { seen, wakesIn }: Sleep,
  consumer: string,
): Promise<void> {
  await link.close();
  void link.connections?.rest();
  const rested = waking?.rest();
  observed.asleep = true;
  logger.info("{consumer} sleeps until it is woken, for at most {seconds} s", {
    consumer,
    seconds: Math.ceil(wakesIn / 1000),
  });
  const isRung = await wake.wait(seen, wakesIn);
  observed.asleep = false;
  rested?.();
  logger.info("{consumer} wakes: {why}", {
    consumer,
    why: isRung ? "it was woken" : "something is due",
  });
}

/**
 * Whether the error is about the connection. A scheduled drain reports it, and its next run tries
 * again.
 */
function isLost({ code }: HarkError): boolean {
  return code === "UNREACHABLE" || code === "TIMEOUT" || code === "NOT_PRIMARY";
}

/** An error of a run that has handled what it could not store. */
export function notStored(consumer: string, count: number): HarkError {
  return new HarkError(
    "UNREACHABLE",
    `consumer "${consumer}" stopped, but could not store that ${count} notifications were handled`,
    { remedy: "They will be handled again. The log says why there was no connection." },
  );
}

/** A position from outside, as hark.register takes it: JSON of a list. Null for other starts. */
function placeOf([, , , text]: StartValues): string | null {
  if (text === undefined) return null;
  const { install, seen, target, lastId, afterId } = parsePosition("from.position", text);
  return JSON.stringify([install, seen, target, lastId, afterId]);
}

async function register(session: Queryable, options: CheckedOptions): Promise<void> {
  const { consumer, channels, filter, transactional } = options.identity;
  await translated(async () => {
    const { rows: [row] } = await session.query(
      // The channels as they were before: a stable function sees what the statement has found.
      `select (select pg_catalog.to_json(hark.channels_of($1::text))::text) as channels,
        pg_catalog.to_json(given_up)::text as given_up, unread,
        skipped, skipped_from, repeats, gap
       from hark.register($1::text, array(select pg_catalog.json_array_elements_text($2::text::json)),
        $3::text, $4::bigint, $5::text::timestamptz, $6::text::jsonb, $7::boolean, $8::integer,
        $9::text::jsonb, $10::integer,
        array(select pg_catalog.json_array_elements_text($11::text::json)))`,
      [
        consumer,
        JSON.stringify(channels),
        ...options.start.slice(0, 3),
        filter,
        transactional,
        options.partitions,
        options.channelStarts,
        options.version,
        placeOf(options.start),
      ],
    );
    if (row.channels === null) {
      logger.info("{consumer} is registered", { consumer });
      if (row.gap !== null) {
        logger.warn(
          "{consumer} begins at a position behind which notifications up to {gap} were cleaned, or may have been",
          { consumer, gap: row.gap },
        );
      }
      return;
    }
    const before: string[] = JSON.parse(row.channels);
    if (JSON.stringify(before.toSorted()) !== JSON.stringify(channels.toSorted())) {
      const added = channels.filter((channel) => !before.includes(channel));
      logger.warn("{consumer} now reads the channels {channels}; before, it read {before}{more}", {
        consumer,
        channels,
        before,
        more: Number(row.skipped) === 0
          ? ""
          : `. It skips ${countOf(row.skipped)} published on ${
            added.join(", ")
          } earlier. To handle ` +
            `them: hark replay ${consumer} --from ${row.skipped_from}` +
            added.map((channel) => ` --channel ${channel}`).join(""),
      });
    }
    if (row.given_up !== null) {
      logger.warn(
        "{consumer} no longer reads the channels {channels}, and skips {what} there that it had not handled; to " +
          "handle them, register another consumer for these channels, or read them again and then: " +
          "hark replay {consumer} --from ID",
        {
          consumer,
          channels: JSON.parse(row.given_up),
          count: Number(row.unread),
          what: countOf(row.unread),
        },
      );
    }
  });
}

function countOf(count: unknown): string {
  return `${count} notification${Number(count) === 1 ? "" : "s"}`;
}
