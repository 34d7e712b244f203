/**
 * Serves a consumer for one run, over one session after the other: reads, calls handlers,
 * acknowledges.
 *
 * @module
 */

import { getLogger } from "../../log/logger.ts";
import { pause } from "../../database/bell.ts";
import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { messageOf } from "../../database/translate.ts";
import { tallyOf } from "./drain.ts";
import { untilDue } from "./due.ts";
import { Parts } from "./parts.ts";
import type { Sleep } from "./slumber.ts";
import { cut } from "../read/cut.ts";
import type { Membership } from "../lease/membership.ts";
import type { CheckedOptions, Run, Tally } from "../state/context.ts";

const logger = getLogger(["hark", "consumer"]);

/** One run of a consumer in this process. */
export class Worker implements AsyncDisposable {
  readonly #run: Run;
  readonly #membership: Membership;
  readonly #parts: Parts;
  #asleep = false;
  #session: Queryable | undefined;
  #paused = false;
  #ready = false;

  constructor(
    db: Queryable,
    options: CheckedOptions,
    run: Run,
    membership: Membership,
    register: (session: Queryable) => Promise<void>,
  ) {
    this.#run = run;
    this.#membership = membership;
    this.#parts = new Parts({
      db,
      options,
      run,
      membership,
      register,
      beat: (session) => this.#heartbeat(session, false),
      session: () => this.#session!,
    });
  }

  /** What was done so far. */
  get tally(): Tally {
    const { drain, settlement, state } = this.#parts;
    return tallyOf(state.entries.handled, settlement, drain);
  }

  /** How many notifications were read, or found waiting, that are not handled. */
  get left(): number {
    return this.#parts.state.left;
  }

  /** The time of a drain is over: ends the heartbeat that is under way. */
  cut(): void {
    this.#membership.cut();
  }

  /** How many handled notifications have an acknowledgement that is not known to be stored. */
  get unstored(): number {
    return this.#parts.state.entries.unacknowledged;
  }

  /** Whether a handler runs. */
  get handles(): boolean {
    return !this.#parts.dispatcher.idle;
  }

  /** Whether it sleeps: the database knows it, and publishers wake it. */
  get isAsleep(): boolean {
    return this.#asleep;
  }

  /**
   * Serves over a session until stopped or drained. If the session fails, this throws. Then call
   * `serve` again. Returns a sleep if the worker has fallen asleep. Call `serve` again when it ends.
   */
  async serve(session: Queryable): Promise<Sleep | undefined> {
    const { assignment, dispatcher, maintenance, ownership, state } = this.#parts;
    this.#session = session;
    const forget = this.#run.listener?.onLoss(() => {
      // Another worker takes over one second after the lock of this worker's session is free, unless
      // a heartbeat comes before. The loop below sends one at once. If that fails, handlers learn that
      // their results may not count.
      assignment.hurry();
      ownership.lost();
      this.#run.wake.ring();
    });
    let serves = true;
    // Not when a worker that has fallen asleep closes it: that would end the sleep.
    void ownConnection(session)?.ended.then(() => serves && this.#run.wake.ring());
    try {
      // From now on, what is published is no replay for this worker.
      if (state.started === undefined) {
        if (this.#run.drain) await maintenance.publishAllDue(session);
        state.started = await cut(session);
        state.noteCut(state.started);
      }
      if (this.#asleep) await this.#wakeUp(session);
      await assignment.resume(session);
      ownership.certain();
      const sleep = await this.#work(session);
      this.#asleep = sleep !== undefined;
      return sleep;
    } catch (error) {
      ownership.lost();
      throw error;
    } finally {
      serves = false;
      dispatcher.open = false;
      forget?.();
    }
  }

  async #wakeUp(session: Queryable): Promise<void> {
    await this.#membership.wake(session);
    this.#asleep = false;
    this.#run.waking?.rise();
    this.#parts.slumber.awoke();
  }

  async #work(session: Queryable): Promise<Sleep | undefined> {
    const {
      acknowledger,
      assignment,
      dispatcher,
      drain,
      fetcher,
      guard,
      halts,
      maintenance,
      rest,
      room,
      slumber,
      state,
      stopReport,
      waiting,
    } = this.#parts;
    const { wake, stopping, abandon, observed } = this.#run;
    const own = ownConnection(session);
    for (;;) {
      const seen = wake.count;
      const stop = stopping.aborted;
      observed.turn(stop);
      if (own?.alive === false) throw await own.ended;
      if (stop && (dispatcher.idle || abandon.aborted)) break;
      if (stop) stopReport.tell();
      await this.#heartbeat(session, !stop);
      await maintenance.tend(session, stop);
      await halts.finish(session);
      await halts.tell(session);
      if (dispatcher.wantsStoring || acknowledger.due <= performance.now()) {
        dispatcher.wantsStoring = false;
        await guard.acknowledge(session, false);
      }
      dispatcher.open = !stop && assignment.last!.outcome === "serve" &&
        !assignment.last!.paused;
      if (assignment.last!.paused !== this.#paused) {
        this.#paused = !this.#paused;
        logger.info("{consumer} is {what}", {
          consumer: state.options.identity.consumer,
          what: this.#paused ? "paused: no handler starts until hark resume" : "resumed",
        });
      }
      if (drain?.endsPaused()) break;
      await this.#run.waking?.tend(session, fetcher.standing(dispatcher.open));
      let busy = false;
      if (dispatcher.open) {
        state.entries.queue.wake(performance.now());
        const reading = own?.reading ?? session;
        if (waiting.mayLoad) await waiting.load(reading);
        await guard.run(session, async () => {
          busy = await fetcher.read(reading);
        });
        // Otherwise handlers are called with the next page, while the server reads it. If keys take
        // turns, handlers wait for that page: the keys whose turn comes may be in it.
        const goesOn = busy && fetcher.goesOn;
        dispatcher.held = goesOn && state.options.sharing !== undefined;
        if (!goesOn) dispatcher.pump();
        room.make();
        if (await drain?.over(session) !== undefined) {
          // Store now, while it is known how far was read. That is beyond the last notification
          // handled.
          await guard.acknowledge(session, true);
          break;
        }
      }
      await maintenance.mark(session);
      // A handler that returns synchronously rings no bell when the next notification of its key
      // has to be read again.
      const loads = dispatcher.hasRoom && waiting.mayLoad;
      if (busy || loads || dispatcher.wantsStoring) continue;
      if (dispatcher.hasRoom && state.entries.queue.hasReady) {
        await pause(0); // give timers and sockets a turn
        continue;
      }
      const sleep = await slumber.begin(session, seen);
      if (sleep !== undefined) return sleep;
      await rest.until(seen, untilDue(this.#parts));
    }
    await this.#leave(session);
    return undefined;
  }

  async #heartbeat(session: Queryable, wanting: boolean): Promise<void> {
    const { acknowledger, assignment, beats, fetcher, maintenance, ownership } = this.#parts;
    const why = beats.next(assignment.due);
    if (why === undefined) return;
    if (why === "changed") acknowledger.hurry();
    const { bell: { count: heard }, drain } = this.#run;
    await assignment.heartbeat(session, wanting);
    this.#run.observed.beat();
    ownership.certain();
    const { mark } = assignment.last!;
    if (mark !== undefined && !drain) fetcher.noteNewest(mark, heard);
    const { outcome } = assignment.last!;
    if (!this.#ready && outcome === "serve") {
      this.#ready = true;
      this.#run.ready?.();
    }
    maintenance.plan(assignment.last!);
  }

  /**
   * Stores the last progress, gives all partitions back, and removes this worker from the
   * consumer's workers.
   */
  async #leave(session: Queryable): Promise<void> {
    const { drain, guard, halts, maintenance, state } = this.#parts;
    if (drain !== undefined) drain.left = state.left;
    await halts.tell(session);
    for (const held of state.partitions.values()) {
      state.halt(held, "release");
      state.tellDone(held);
    }
    await guard.acknowledge(session, true);
    await drain?.lookBack(session, maintenance.published);
    const held = [...state.partitions.values()];
    if (held.length > 0) await this.#membership.release(session, held);
    // Another worker does so now and then. A drain is over before it would be time.
    const isInTime = !this.#run.stopping.aborted;
    if (drain !== undefined && drain.end !== "busy" && isInTime) {
      await session.query("select hark.thin_marks()");
    }
    await this.#run.waking?.leave(session);
    await this.#membership.leave(session);
    for (const one of held) state.forget(one, new Error("the consumer has stopped"));
  }

  /** Ends what is left of the run: timers, and the connections of handlers. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { ownership, state, transactions } = this.#parts;
    ownership.forget();
    await this.#membership.end();
    for (const held of [...state.partitions.values()]) {
      state.forget(held, new Error("the consumer has stopped"));
    }
    try {
      await transactions?.close();
    } catch (error) {
      logger.debug("Could not close the connection of a handler: {reason}", {
        reason: messageOf(error),
      });
    }
  }
}
