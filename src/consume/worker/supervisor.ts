/**
 * Keeps a consumer served, over as many connections as necessary.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import { Bell } from "../../database/bell.ts";
import { connectionsOf } from "../../database/database.ts";
import { type OwnConnection, ownConnection, type Queryable } from "../../database/queryable.ts";
import { messageOf, translate } from "../../database/translate.ts";
import { HarkError } from "../../errors.ts";
import { ObservedRun } from "../../observe/run.ts";
import { seam } from "../../observe/seam.ts";
import { requireTransactions } from "../dispatch/transactions.ts";
import { Membership } from "../lease/membership.ts";
import { processName } from "../lease/process_name.ts";
import { Link, rebase } from "../link.ts";
import { Wakeup } from "../read/wakeup.ts";
import type { CheckedOptions, Progress, Run, Tally } from "../state/context.ts";
import type { Sleep } from "./slumber.ts";
import { Entrance } from "./entrance.ts";
import { register } from "./register.ts";
import { Worker } from "./worker.ts";

const logger = getLogger(["hark", "consumer"]);

/** How long a stopping worker tries to reconnect, to store what is handled, in milliseconds. */
const storeTimeout = 5000;
/** The longest wait between its attempts, in milliseconds. Its handlers may end at any time. */
const longestAtStop = 1000;

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
      if (options.idle === "poll") detach.push(waking!.renewByHeartbeat());
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
    // If interrupted while stopping, the worker reconnects for as long as handlers run, and for a while
    // if what they handled is not stored yet.
    const goesOn = () => {
      if (!stopping.aborted || worker.handles && !abandon.aborted) return true;
      storeBy = Math.min(storeBy, performance.now() + storeTimeout);
      return (worker.unstored > 0 || worker.isAsleep) && performance.now() < storeBy;
    };
    while (goesOn()) {
      observed.turn(stopping.aborted);
      try {
        const sleep = await worker.serve(link.alive());
        if (sleep === undefined) break;
        await slumber(link, run, sleep, consumer);
      } catch (error) {
        observed.connected = false;
        if (abandon.aborted && worker.unstored === 0) break;
        if (cutting?.signal.aborted || drain && isLost(translate(error))) throw translate(error);
        const report = (reason: HarkError, wait: number) => {
          logger.warn("{consumer} was interrupted, trying again in {wait} ms: {reason}", {
            consumer,
            wait,
            reason: messageOf(reason),
          });
        };
        // After the end of its time it waits between its attempts, too.
        const ends = abandon.aborted ? new AbortController().signal : abandon;
        if (stopping.aborted) await link.failed(error, ends, report, longestAtStop);
        else await link.failed(error, stopping, report);
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
