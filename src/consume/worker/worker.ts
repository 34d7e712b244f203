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
import { Acknowledger } from "../settle/acknowledger.ts";
import { HandlerCalls } from "../dispatch/handler_call.ts";
import { Dispatcher } from "../dispatch/dispatcher.ts";
import { OwnershipGuard } from "../lease/ownership.ts";
import { Beats } from "./beats.ts";
import { Drain, tallyOf } from "./drain.ts";
import { Guard } from "./guard.ts";
import { Halts } from "./halts.ts";
import { Maintenance } from "./maintenance.ts";
import { Room } from "./room.ts";
import { Rest } from "./rest.ts";
import { Service } from "./service.ts";
import { type Sleep, Slumber } from "./slumber.ts";
import { Settlement } from "../settle/settlement.ts";
import { cut } from "../read/cut.ts";
import type { WindowReader } from "../read/window_reader.ts";
import { Fetcher } from "../read/fetcher.ts";
import type { Membership } from "../lease/membership.ts";
import type { CheckedOptions, Run, Tally } from "../state/context.ts";
import { Assignment } from "../lease/assignment.ts";
import { State } from "../state/state.ts";
import { StopReport } from "./stop_report.ts";
import { Transactions } from "../dispatch/transactions.ts";
import { Waiting } from "../read/waiting.ts";

const logger = getLogger(["hark", "consumer"]);

/** One run of a consumer in this process. */
export class Worker implements AsyncDisposable {
  readonly #options: CheckedOptions;
  readonly #run: Run;
  readonly #state: State;
  readonly #membership: Membership;
  readonly #fetcher: Fetcher;
  readonly #waiting: Waiting;
  readonly #assignment: Assignment;
  readonly #dispatcher: Dispatcher;
  readonly #settlement: Settlement;
  readonly #acknowledger: Acknowledger;
  readonly #transactions: Transactions | undefined;
  readonly #drain: Drain | undefined;
  readonly #maintenance: Maintenance;
  readonly #halts: Halts;
  readonly #stopReport: StopReport;
  readonly #beats: Beats;
  readonly #guard: Guard;
  readonly #rest: Rest;
  readonly #room: Room;
  readonly #slumber: Slumber;
  #asleep = false;
  #session: Queryable | undefined;
  #paused = false;
  #ready = false;
  readonly #ownership: OwnershipGuard;

  constructor(
    db: Queryable,
    options: CheckedOptions,
    run: Run,
    membership: Membership,
    register: (session: Queryable) => Promise<void>,
  ) {
    this.#options = options;
    this.#run = run;
    const readers: WindowReader[] = [];
    this.#state = new State(options, run, readers);
    this.#membership = membership;
    this.#ownership = new OwnershipGuard(this.#state.partitions);
    this.#fetcher = new Fetcher(this.#state, readers, () => this.#dispatcher.pump());
    this.#waiting = new Waiting(this.#state);
    this.#assignment = new Assignment(
      this.#state,
      this.#membership,
      new Service(this.#state, readers, this.#waiting),
      register,
    );
    this.#acknowledger = new Acknowledger(this.#state);
    this.#maintenance = new Maintenance(this.#state);
    this.#beats = new Beats(run.control);
    this.#rest = new Rest(run);
    this.#guard = new Guard(this.#state, this.#assignment, this.#acknowledger, (session) => {
      return this.#heartbeat(session, false);
    });
    this.#halts = new Halts(this.#state, this.#membership, this.#assignment, (session) => {
      return this.#guard.acknowledge(session, true);
    });
    this.#transactions = options.identity.transactional
      ? new Transactions(db, options.identity)
      : undefined;
    this.#settlement = new Settlement(this.#state);
    this.#dispatcher = new Dispatcher(
      this.#state,
      new HandlerCalls(options.handling, this.#transactions, run.abandon, {
        name: run.observed.worker,
        consumer: options.identity.consumer,
      }),
      this.#settlement,
      (now) => this.#assignment.certain(now),
      async (held, id) => await this.#membership.beginAlone(this.#session!, held, id),
    );
    run.observed.consistsOf(this.#state, this.#assignment, this.#dispatcher);
    this.#room = new Room(this.#state, this.#dispatcher, this.#fetcher);
    this.#slumber = new Slumber(
      this.#state,
      this.#dispatcher,
      this.#fetcher,
      this.#assignment,
      this.#membership,
      this.#guard,
    );
    this.#stopReport = new StopReport(this.#state, this.#dispatcher);
    this.#drain = run.drain
      ? new Drain(this.#state, this.#assignment, this.#dispatcher)
      : undefined;
  }

  /** What was done so far. */
  get tally(): Tally {
    return tallyOf(this.#state.entries.handled, this.#settlement, this.#drain);
  }

  /** How many notifications were read, or found waiting, that are not handled. */
  get left(): number {
    return this.#state.left;
  }

  /** The time of a drain is over: ends the heartbeat that is under way. */
  cut(): void {
    this.#membership.cut();
  }

  /** How many handled notifications have an acknowledgement that is not known to be stored. */
  get unstored(): number {
    return this.#state.entries.unacknowledged;
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
    this.#session = session;
    const forget = this.#run.listener?.onLoss(() => {
      // Another worker takes over one second after the lock of this worker's session is free, unless
      // a heartbeat comes before. The loop below sends one at once. If that fails, handlers learn that
      // their results may not count.
      this.#assignment.hurry();
      this.#ownership.lost();
      this.#run.wake.ring();
    });
    let serves = true;
    // Not when a worker that has fallen asleep closes it: that would end the sleep.
    void ownConnection(session)?.ended.then(() => serves && this.#run.wake.ring());
    try {
      // From now on, what is published is no replay for this worker.
      if (this.#state.started === undefined) {
        if (this.#run.drain) await this.#maintenance.publishAllDue(session);
        this.#state.started = await cut(session);
        this.#state.noteCut(this.#state.started);
      }
      if (this.#asleep) await this.#wakeUp(session);
      await this.#assignment.resume(session);
      this.#ownership.certain();
      const sleep = await this.#work(session);
      this.#asleep = sleep !== undefined;
      return sleep;
    } catch (error) {
      this.#ownership.lost();
      throw error;
    } finally {
      serves = false;
      this.#dispatcher.open = false;
      forget?.();
    }
  }

  async #wakeUp(session: Queryable): Promise<void> {
    await this.#membership.wake(session);
    this.#asleep = false;
    this.#run.waking?.rise();
    this.#slumber.awoke();
  }

  async #work(session: Queryable): Promise<Sleep | undefined> {
    const { wake, stopping, abandon, observed } = this.#run;
    const own = ownConnection(session);
    for (;;) {
      const seen = wake.count;
      const stop = stopping.aborted;
      observed.turn(stop);
      if (own?.alive === false) throw await own.ended;
      if (stop && (this.#dispatcher.idle || abandon.aborted)) break;
      if (stop) this.#stopReport.tell();
      await this.#heartbeat(session, !stop);
      await this.#maintenance.tend(session, stop);
      await this.#halts.finish(session);
      await this.#halts.tell(session);
      if (this.#dispatcher.wantsStoring || this.#acknowledger.due <= performance.now()) {
        this.#dispatcher.wantsStoring = false;
        await this.#guard.acknowledge(session, false);
      }
      this.#dispatcher.open = !stop && this.#assignment.last!.outcome === "serve" &&
        !this.#assignment.last!.paused;
      if (this.#assignment.last!.paused !== this.#paused) {
        this.#paused = !this.#paused;
        logger.info("{consumer} is {what}", {
          consumer: this.#options.identity.consumer,
          what: this.#paused ? "paused: no handler starts until hark resume" : "resumed",
        });
      }
      if (this.#drain?.endsPaused()) break;
      await this.#run.waking?.tend(session, this.#fetcher.standing(this.#dispatcher.open));
      let busy = false;
      if (this.#dispatcher.open) {
        this.#state.entries.queue.wake(performance.now());
        const reading = own?.reading ?? session;
        if (this.#waiting.mayLoad) await this.#waiting.load(reading);
        await this.#guard.run(session, async () => {
          busy = await this.#fetcher.read(reading);
        });
        // Otherwise handlers are called with the next page, while the server reads it. If keys take
        // turns, handlers wait for that page: the keys whose turn comes may be in it.
        const goesOn = busy && this.#fetcher.goesOn;
        this.#dispatcher.held = goesOn && this.#options.sharing !== undefined;
        if (!goesOn) this.#dispatcher.pump();
        this.#room.make();
        if (await this.#drain?.over(session) !== undefined) {
          // Store now, while it is known how far was read. That is beyond the last notification
          // handled.
          await this.#guard.acknowledge(session, true);
          break;
        }
      }
      await this.#maintenance.mark(session);
      // A handler that returns synchronously rings no bell when the next notification of its key
      // has to be read again.
      const loads = this.#dispatcher.hasRoom && this.#waiting.mayLoad;
      if (busy || loads || this.#dispatcher.wantsStoring) continue;
      if (this.#dispatcher.hasRoom && this.#state.entries.queue.hasReady) {
        await pause(0); // give timers and sockets a turn
        continue;
      }
      const sleep = await this.#slumber.begin(session, seen);
      if (sleep !== undefined) return sleep;
      await this.#rest.until(seen, this.#untilNext());
    }
    await this.#leave(session);
    return undefined;
  }

  async #heartbeat(session: Queryable, wanting: boolean): Promise<void> {
    const why = this.#beats.next(this.#assignment.due);
    if (why === undefined) return;
    if (why === "changed") this.#acknowledger.hurry();
    const { bell: { count: heard }, drain } = this.#run;
    await this.#assignment.heartbeat(session, wanting);
    this.#run.observed.beat();
    this.#ownership.certain();
    const { mark } = this.#assignment.last!;
    if (mark !== undefined && !drain) this.#fetcher.noteNewest(mark, heard);
    const { outcome } = this.#assignment.last!;
    if (!this.#ready && outcome === "serve") {
      this.#ready = true;
      this.#run.ready?.();
    }
    this.#maintenance.plan(this.#assignment.last!);
  }

  /** How long nothing is due unless a bell rings, in milliseconds. */
  #untilNext(): number {
    const { run, entries: { queue } } = this.#state;
    let next = Math.min(
      this.#assignment.due,
      this.#beats.due,
      this.#acknowledger.due,
      this.#maintenance.due,
      this.#slumber.due,
    );
    if (run.waking !== undefined) {
      next = Math.min(next, run.waking.due(this.#fetcher.standing(this.#dispatcher.open)));
    }
    if (run.stopping.aborted) next = Math.min(next, this.#stopReport.due);
    if (this.#dispatcher.open) {
      next = Math.min(next, queue.nextDue);
      if (!this.#fetcher.isFull) next = Math.min(next, this.#fetcher.nextLook());
      else next = Math.min(next, this.#room.due);
      if (run.drain) next = Math.min(next, performance.now() + 100);
    }
    return Math.min(Math.max(next - performance.now(), 1), 60_000);
  }

  /**
   * Stores the last progress, gives all partitions back, and removes this worker from the
   * consumer's workers.
   */
  async #leave(session: Queryable): Promise<void> {
    if (this.#drain !== undefined) this.#drain.left = this.#state.left;
    await this.#halts.tell(session);
    for (const held of this.#state.partitions.values()) {
      this.#state.halt(held, "release");
      this.#state.tellDone(held);
    }
    await this.#guard.acknowledge(session, true);
    await this.#drain?.lookBack(session, this.#maintenance.published);
    const held = [...this.#state.partitions.values()];
    if (held.length > 0) await this.#membership.release(session, held);
    // Another worker does so now and then. A drain is over before it would be time.
    const isInTime = !this.#run.stopping.aborted;
    if (this.#drain !== undefined && this.#drain.end !== "busy" && isInTime) {
      await session.query("select hark.thin_marks()");
    }
    await this.#run.waking?.leave(session);
    await this.#membership.leave(session);
    for (const one of held) this.#state.forget(one, new Error("the consumer has stopped"));
  }

  /** Ends what is left of the run: timers, and the connections of handlers. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ownership.forget();
    await this.#membership.end();
    for (const held of [...this.#state.partitions.values()]) {
      this.#state.forget(held, new Error("the consumer has stopped"));
    }
    try {
      await this.#transactions?.close();
    } catch (error) {
      logger.debug("Could not close the connection of a handler: {reason}", {
        reason: messageOf(error),
      });
    }
  }
}
