/**
 * The parts of a worker, and how they are put together.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { Dispatcher } from "../dispatch/dispatcher.ts";
import { HandlerCalls } from "../dispatch/handler_call.ts";
import { Transactions } from "../dispatch/transactions.ts";
import { Assignment } from "../lease/assignment.ts";
import type { Membership } from "../lease/membership.ts";
import { OwnershipGuard } from "../lease/ownership.ts";
import { Fetcher } from "../read/fetcher.ts";
import { Waiting } from "../read/waiting.ts";
import type { WindowReader } from "../read/window_reader.ts";
import { Acknowledger } from "../settle/acknowledger.ts";
import { Settlement } from "../settle/settlement.ts";
import type { CheckedOptions, Run } from "../state/context.ts";
import { State } from "../state/state.ts";
import { Beats } from "./beats.ts";
import { Drain } from "./drain.ts";
import { Guard } from "./guard.ts";
import { Halts } from "./halts.ts";
import { Maintenance } from "./maintenance.ts";
import { Rest } from "./rest.ts";
import { Room } from "./room.ts";
import { Service } from "./service.ts";
import { Slumber } from "./slumber.ts";
import { StopReport } from "./stop_report.ts";

/** What a worker gives its parts. */
export interface WorkerSetting {
  /** The database, for the transactions of handlers. */
  readonly db: Queryable;
  readonly options: CheckedOptions;
  readonly run: Run;
  readonly membership: Membership;
  /** Registers the worker's definition of the consumer. */
  readonly register: (session: Queryable) => Promise<void>;
  /** Sends a heartbeat if one is due. */
  readonly beat: (session: Queryable) => Promise<void>;
  /** The session over which the worker serves. */
  readonly session: () => Queryable;
}

/** What one run of a consumer consists of. */
export class Parts {
  readonly state: State;
  readonly fetcher: Fetcher;
  readonly waiting: Waiting;
  readonly assignment: Assignment;
  readonly ownership: OwnershipGuard;
  readonly dispatcher: Dispatcher;
  readonly transactions: Transactions | undefined;
  readonly settlement: Settlement;
  readonly acknowledger: Acknowledger;
  readonly beats: Beats;
  readonly drain: Drain | undefined;
  readonly guard: Guard;
  readonly halts: Halts;
  readonly maintenance: Maintenance;
  readonly rest: Rest;
  readonly room: Room;
  readonly slumber: Slumber;
  readonly stopReport: StopReport;

  constructor({ db, options, run, membership, register, beat, session }: WorkerSetting) {
    const { identity } = options;
    const readers: WindowReader[] = [];
    const state = this.state = new State(options, run, readers);
    this.ownership = new OwnershipGuard(state.partitions);
    this.fetcher = new Fetcher(state, readers, () => this.dispatcher.pump());
    this.waiting = new Waiting(state);
    const service = new Service(state, readers, this.waiting);
    const assignment = this.assignment = new Assignment(state, membership, service, register);
    this.acknowledger = new Acknowledger(state);
    this.maintenance = new Maintenance(state);
    this.beats = new Beats(run.control);
    this.rest = new Rest(run);
    const guard = this.guard = new Guard(state, assignment, this.acknowledger, beat);
    this.halts = new Halts(state, membership, assignment, (over) => guard.acknowledge(over, true));
    this.transactions = identity.transactional ? new Transactions(db, identity) : undefined;
    this.settlement = new Settlement(state);
    const { worker: name } = run.observed;
    this.dispatcher = new Dispatcher(
      state,
      new HandlerCalls(options.handling, this.transactions, run.abandon, {
        name,
        consumer: identity.consumer,
      }),
      this.settlement,
      (now) => assignment.certain(now),
      async (held, id) => await membership.beginAlone(session(), held, id),
    );
    const { dispatcher, fetcher } = this;
    run.observed.consistsOf(state, assignment, dispatcher);
    this.room = new Room(state, dispatcher, fetcher);
    this.slumber = new Slumber(state, dispatcher, fetcher, assignment, membership, guard);
    this.stopReport = new StopReport(state, dispatcher);
    this.drain = run.drain ? new Drain(state, assignment, dispatcher) : undefined;
  }
}
