/**
 * A worker without a database, whose time and handlers a test decides: the real queue, dispatcher, state and
 * intake over rows kept here, and what users are promised, checked at each call of a handler.
 *
 * @module
 */

import assert from "node:assert/strict";
import { DeadLetter, type LimitOptions, type Queryable } from "../../../mod.ts";
import { Bell } from "../../../src/database/bell.ts";
import type { HandlerCalls } from "../../../src/consume/dispatch/handler_call.ts";
import { completeOptions } from "../../../src/consume/check_options.ts";
import { Dispatcher } from "../../../src/consume/dispatch/dispatcher.ts";
import { OwnedPartition } from "../../../src/consume/state/partition.ts";
import { Fetcher } from "../../../src/consume/read/fetcher.ts";
import { Waiting } from "../../../src/consume/read/waiting.ts";
import { type Entry, isPassable } from "../../../src/consume/state/entry.ts";
import type { Claimed } from "../../../src/consume/state/identity.ts";
import type { WindowReader } from "../../../src/consume/read/window_reader.ts";
import type { CheckedOptions, Run } from "../../../src/consume/state/context.ts";
import type { Position } from "../../../src/consume/state/position.ts";
import { State } from "../../../src/consume/state/state.ts";
import { ObservedRun } from "../../../src/observe/run.ts";
import { BatchFailed, type Result, Unsure, type Work } from "../../../src/consume/state/work.ts";
import { Settlement } from "../../../src/consume/settle/settlement.ts";

/** What kind of worker it is. */
export interface Kind {
  readonly concurrency: number;
  /** 1 for a worker with `handle`. */
  readonly batchSize: number;
  readonly partitions: number;
  readonly transactional: boolean;
  readonly block: boolean;
  readonly maxWaiting: number;
  /** With which limits keys take turns. Without any they do not. */
  readonly limits?: Pick<LimitOptions, "perKey" | "rate"> & {
    /** Whether two keys are one group. */
    readonly grouped?: boolean;
  };
}

/** What a handler makes of what it was called with. `mask` chooses among the notifications of a batch. */
export interface Ending {
  readonly how:
    | "succeeds"
    | "throws"
    | "fails some"
    | "gives up"
    | "loses its connection"
    | "commits or not";
  readonly mask: number;
}

/** A notification; in hark.waiting also the change that asked for its next attempt at once. */
interface Published {
  hurried?: number;
  readonly id: number;
  readonly key: string | null;
  readonly partition: number;
  readonly readable: boolean;
}

interface Call extends Work {
  readonly end: (results: readonly Result[]) => void;
}

/** Tells when State is told things, to compare. */
class Watched extends State {
  readonly followed = new Set<Entry>();
  readonly halting = new Set<Entry>();
  readonly begun = new WeakSet<Entry>();
  /** What is being put together for a batch may be begun. */
  picking = false;
  broken: Error | undefined;

  constructor(options: CheckedOptions, run: Run, readers: WindowReader[]) {
    super(options, run, readers);
    const follow = this.entries.follow.bind(this.entries);
    this.entries.follow = (entry) => {
      if (this.followed.has(entry) && !this.options.block) {
        this.broken ??= new Error(`follow is called twice for ${entry.id}`);
      }
      this.followed.add(entry);
      follow(entry);
    };
  }

  override halt(held: OwnedPartition, why: NonNullable<OwnedPartition["halted"]>): void {
    for (const entry of held.entries()) {
      const begun = isPassable(entry) || this.begun.has(entry) || this.picking;
      if (!begun) this.halting.add(entry);
    }
    super.halt(held, why);
  }
}

/** The group of a key: "a" and "b" are one, and "c" and "d". */
/** Where each page ends: nothing here looks into positions. */
const mark = { number: 1, snapshot: "2:2:", life: "", content: "" };
const page: Position = { seen: mark, target: mark, lastId: 0, afterId: 0 };

const groupOf = (key: string): string => key <= "b" ? "ab" : "cd";

const range = (count: number) => Array.from({ length: count }, (_, n) => n);

/** The worker, and the rows it works on. */
export class Simulated {
  readonly kind: Kind;
  readonly state: Watched;
  readonly calls: Call[] = [];
  /** Ids that are done with, as users see it: handled, or given up. */
  readonly ended = new Set<number>();
  readonly log: Published[] = [];
  /** The rows of hark.waiting, hark.done and hark.partitions. */
  readonly waiting = new Map<number, Published>();
  readonly #done = new Set<number>();
  readonly #positions: number[];
  readonly #read: number[];
  readonly #heldOf = new WeakMap<Entry, OwnedPartition>();
  readonly #endedUnder = new Map<number, OwnedPartition>();
  readonly #stored = new Set<number>();
  readonly #inHand = new Set<Entry>();
  /** In which replay an id was asked for last. */
  readonly #replays = new Map<number, number>();
  #changes = 0;
  readonly #succeeded = new Set<Entry>();
  readonly #dispatcher: Dispatcher;
  readonly #fetcher: Fetcher;
  readonly #waiting: Waiting;
  #epoch = 0;
  #most = 0;
  /** The time of limits. It goes on when the worker is to wake. */
  #clock = 0;
  /** When handlers of each group began. The worker's own are those of null. */
  readonly #starts = new Map<string | null, number[]>();
  #broken: Error | undefined;

  constructor(kind: Kind) {
    this.kind = kind;
    const { grouped = false, ...limits } = kind.limits ?? {};
    const by = (n: { key: string | null }) => n.key === null ? n.key : groupOf(n.key);
    const given: CheckedOptions = completeOptions(
      {
        ...(kind.limits === undefined
          ? {}
          : { limits: grouped ? { ...limits, by } : { ...limits } }),
        concurrency: kind.concurrency,
        partitions: kind.partitions,
        transactional: kind.transactional,
        onFailure: kind.block ? "block" : "wait",
        maxAttempts: Infinity,
        maxWaiting: kind.maxWaiting,
        ...(kind.batchSize > 1 ? { batchSize: kind.batchSize } : {}),
      },
      "c",
      "c",
      kind.batchSize > 1
        ? { handle: undefined, handleBatch: () => {} }
        : { handle: () => {}, handleBatch: undefined },
    );
    const options: CheckedOptions = {
      ...given,
      sharing: given.sharing && { ...given.sharing, clock: () => this.#clock },
    };
    const never = new AbortController().signal;
    const run: Run = {
      stopping: never,
      abandon: never,
      wake: new Bell(),
      bell: new Bell(),
      control: new Bell(),
      listener: undefined,
      observed: new ObservedRun("c", "", { query: () => Promise.reject(new Error("unused")) }),
      drain: false,
      limit: Infinity,
      waits: true,
    };
    const reader = { inWindow: true, read: () => Promise.resolve(this.#page()) };
    const readers = [reader as unknown as WindowReader];
    this.state = new Watched(options, run, readers);
    this.state.started = mark;
    this.#fetcher = new Fetcher(this.state, readers);
    this.#waiting = new Waiting(this.state);
    const attempts = { run: (work: Work) => this.#begin(work) } as unknown as HandlerCalls;
    this.#dispatcher = new Dispatcher(
      this.state,
      attempts,
      new Settlement(this.state),
      () => true,
      async () => {},
    );
    const pump = this.#dispatcher.pump.bind(this.#dispatcher);
    this.#dispatcher.pump = () => {
      this.state.picking = true;
      pump();
      this.state.picking = false;
    };
    this.#dispatcher.open = true;
    this.#positions = range(kind.partitions).map(() => 0);
    this.#read = [...this.#positions];
  }

  /** Claims every partition. */
  async start(): Promise<void> {
    for (const number of range(this.kind.partitions)) await this.#claim(number);
  }

  /** Publishes one notification. */
  publish(key: string | null, readable = true): void {
    const id = this.log.length + 1;
    const number = key === null ? id : key.charCodeAt(0);
    this.log.push({ id, key, partition: number % this.kind.partitions, readable });
  }

  /** Reads up to `count` of what is new. */
  async read(most: number): Promise<void> {
    this.#most = most;
    const before = [...this.#read];
    await this.#fetcher.read(this.#session);
    for (const held of this.state.partitions.values()) {
      for (const entry of held.entries()) this.#heldOf.set(entry, held);
      if (held.halted === undefined) continue;
      // It may have been halted in the middle of the page.
      const last = held.entries().at(-1)?.id ?? before[held.number]!;
      this.#read[held.number] = Math.max(before[held.number]!, last);
    }
  }

  /** What pages the reader is given. */
  #page() {
    const rows = this.log.filter(({ id, partition }) => {
      const held = this.state.partitions.get(partition);
      if (this.#most === 0 || held === undefined || held.halted !== undefined) return false;
      if (id <= this.#read[partition]!) return false;
      this.#read[partition] = id;
      this.#most--;
      return true;
    });
    return {
      rows: rows.map(({ id, key, readable, partition }) => ({
        ...this.#row(id, key, readable),
        partition,
      })),
      position: page,
    };
  }

  #row(id: number, key: string | null, readable: boolean) {
    const payload = (readable ? "{}" : null) as string;
    return { id, key, channel: "c", payload, headers: null, createdAt: 0, isReplay: false };
  }

  /** Starts handlers. */
  pump(): void {
    this.#dispatcher.pump();
    this.check();
  }

  #begin(work: Work): Promise<readonly Result[]> {
    try {
      this.#check(work);
    } catch (error) {
      this.#broken ??= error as Error; // thrown where the test sees it
    }
    for (const entry of work.entries) {
      try {
        this.#checkLimits(entry);
      } catch (error) {
        this.#broken ??= error as Error;
      }
      this.#inHand.add(entry);
      this.state.begun.add(entry);
    }
    const { promise, resolve } = Promise.withResolvers<readonly Result[]>();
    this.calls.push({ ...work, end: resolve });
    return promise;
  }

  /** What must be so whenever a handler is called. */
  #check(work: Work): void {
    this.#note();
    const { log, ended, state } = this;
    const ids = work.entries.map((entry) => entry.id);
    const says = (id: number) => `${id} of [${ids}]`;
    assert.equal(new Set(ids).size, ids.length, `twice in one batch: [${ids}]`);
    assert(ids.length <= this.kind.batchSize, "a batch is as large as it may be at most");
    assert(this.calls.length < this.kind.concurrency, "as many handlers run as may at most");
    const first = new Map<string, number>();
    for (const [i, entry] of work.entries.entries()) {
      const { id, lane, partition } = entry;
      const held = state.partitions.get(partition);
      assert(
        entry.phase !== "dropped" && held === this.#heldOf.get(entry),
        `${says(id)} is of a lost partition`,
      );
      assert(!state.halting.has(entry), `${says(id)} was not begun when its partition was halted`);
      assert(!this.#inHand.has(entry), `${says(id)} is in hand already`);
      assert(!this.#stored.has(id), `${says(id)} is over, and that is stored`);
      assert.notEqual(this.#endedUnder.get(id), held, `${says(id)} is over, and known to be`);
      if (lane === undefined) continue;
      for (const other of this.#inHand) {
        assert(other.lane !== lane, `${says(id)} begins beside ${other.id} of its key`);
      }
      const before = log.filter((n) =>
        state.entries.laneOf(n.partition, n.key) === lane && n.id < id && !ended.has(n.id) &&
        !ids.slice(0, i).includes(n.id) && !this.#isBeside(n.id, id)
      );
      assert.deepEqual(before, [], `${says(id)} comes before earlier ones of its key`);
      assert((first.get(lane) ?? 0) < id, `${says(id)} is out of order in its batch`);
      first.set(lane, id);
    }
  }

  /** Whether one of two ids is delivered once more beside the other, in no order. */
  #isBeside(one: number, other: number): boolean {
    return this.#replays.get(one) !== this.#replays.get(other);
  }

  /** What limits promise: how many handlers of a group run, and how many begin in any time. */
  #checkLimits({ id, key }: Entry): void {
    const { limits } = this.kind;
    if (limits === undefined) return;
    const group = (key: string | null) =>
      key === null || limits.grouped !== true ? key : groupOf(key);
    const own = group(key);
    const beside = [...this.#inHand].filter((other) => group(other.key) === own).length;
    const { concurrency = Infinity, rate } = limits.perKey ?? {};
    assert(own === null || beside < concurrency, `${id} begins beside ${beside} of its group`);
    for (const [name, given] of [[own, rate], [null, limits.rate]] as const) {
      if (given === undefined || own === null && given === rate) continue;
      const starts = this.#starts.get(name) ?? [];
      this.#starts.set(name, starts);
      starts.push(this.#clock);
      const recent = starts.filter((at) => at > this.#clock - Number(given.per)).length;
      assert(recent <= 2 * given.count, `${id} is start ${recent} of ${name} in its time`);
      const now = starts.filter((at) => at === this.#clock).length;
      assert(now <= given.count, `${id} is start ${now} of ${name} at once`);
    }
  }

  /** Fails where a promise was broken. */
  check(): void {
    const broken = this.#broken ?? this.state.broken;
    if (broken !== undefined) throw broken;
  }

  /** Ends one of the calls in hand. */
  async settle(at: number, { how, mask }: Ending): Promise<void> {
    const [call] = this.calls.splice(at % Math.max(1, this.calls.length), 1);
    if (call === undefined) return;
    const { entries } = call;
    for (const entry of entries) this.#inHand.delete(entry);
    const { transactional } = this.kind;
    const chosen = entries.map((_, i) => (mask >> (i % 8)) % 2 === 1);
    const error = new Error(how);
    const all = (error: unknown) => entries.map(() => ({ error }));
    const finish = (results: readonly Result[]) => {
      for (const [i, entry] of entries.entries()) {
        if (results[i] !== undefined) continue;
        if (transactional) this.#end(entry);
        else this.#succeeded.add(entry);
      }
      call.end(results);
    };
    if (how === "throws") finish(all(error));
    else if (how === "loses its connection") {
      for (const held of call.held) held.lose(error);
      finish(all(error));
      await this.#turns();
      for (const held of call.held) held.regain(held.epoch);
    } else if (how === "commits or not" && transactional) {
      const lost = entries.some((entry) => entry.phase === "dropped");
      if (chosen[0] && !lost) { for (const entry of entries) this.#end(entry); }
      finish(all(new Unsure(error)));
    } else if (how === "fails some" || how === "gives up") {
      const told = how === "gives up" ? new DeadLetter() : error;
      const others = transactional && chosen.includes(true)
        ? { error: new BatchFailed() }
        : undefined;
      finish(chosen.map((is) => is ? { error: told } : others));
    } else finish(entries.map(() => undefined));
    await this.#turns();
    this.#note();
    this.check();
  }

  /** It is done with; where handlers have transactions that is stored at once. */
  #end(entry: Entry): void {
    if (entry.phase === "dropped" && this.kind.transactional) return; // fenced: it did not commit
    this.ended.add(entry.id);
    const held = this.#heldOf.get(entry)!;
    this.#endedUnder.set(entry.id, held);
    if (!this.kind.transactional) return;
    this.#stored.add(entry.id);
    this.waiting.delete(entry.id);
    this.#done.add(entry.id);
  }

  async #turns(): Promise<void> {
    for (let n = 0; n < 12; n++) await null;
  }

  /** What succeeded is over, unless it counts as not handled; so is what was given up. */
  #note(): void {
    for (const entry of this.#succeeded) {
      if (entry.phase === "dropped") this.ended.add(entry.id); // but that is stored nowhere
      else if (entry.phase === "settled" && !entry.stored) this.#end(entry);
    }
    this.#succeeded.clear();
    for (const { kind, entry } of this.state.entries.rows.outcomes.values()) {
      if (kind !== "dead") continue;
      this.ended.add(entry.id);
      this.#endedUnder.set(entry.id, this.#heldOf.get(entry)!);
    }
  }

  /** Time passes: for all that waits, or for the first that is due. */
  async wake(all: boolean): Promise<void> {
    await this.finishHalts();
    this.#clock += all ? 1000 : 100;
    const { queue } = this.state.entries;
    queue.wake(all ? 1e300 : queue.nextDue);
    if (queue.wantsLoading) await this.#waiting.load(this.#session);
  }

  /** Handlers have run for long: the position is to pass them. */
  makeRoom(): void {
    if (!this.#dispatcher.hasRoom || this.state.entries.queue.hasReady) return;
    for (const entry of this.state.entries.running) {
      if (entry.stored || entry.phase === "dropped") continue;
      this.state.entries.pass(entry, performance.now());
    }
    this.state.entries.setAside();
  }

  /** The worker finds that a position has not moved for a while, and stores what was handled ahead of it. */
  tellLate(): void {
    if (!this.kind.transactional) this.state.tellLate();
  }

  /** Stores outcomes and positions, as hark.acknowledge does. */
  acknowledge(): void {
    this.#note();
    for (const [id, { kind, entry }] of this.state.entries.rows.outcomes) {
      const isKnown = entry.wait?.certain === true;
      if (kind !== "wait") {
        this.waiting.delete(id);
        this.#done.add(id); // until the position has passed it
        if (kind === "end" && entry.wait === undefined) this.#stored.add(id);
      } else {
        const counts = isKnown ? this.waiting.has(id) : !this.#done.has(id);
        if (counts) this.waiting.set(id, this.waiting.get(id) ?? { ...this.log[id - 1]! });
        this.state.entries.rows.confirm(entry);
      }
    }
    this.state.entries.rows.outcomes.clear();
    for (const held of this.state.partitions.values()) {
      const through = held.oldest === undefined ? this.#read[held.number]! : held.oldest.id - 1;
      this.#positions[held.number] = through;
      for (const id of this.ended) {
        if (this.log[id - 1]!.partition !== held.number || id > through) continue;
        this.#done.delete(id);
        if (!this.waiting.has(id)) this.#stored.add(id);
      }
    }
  }

  /** Goes on with the partitions whose halt is over; gives back those that are to be. */
  async finishHalts(): Promise<void> {
    for (const held of [...this.state.partitions.values()]) {
      if (held.halted !== "unsure" && held.halted !== "release" || held.running > 0) continue;
      this.state.tellDone(held);
      this.acknowledge();
      // In order, nothing is repeated.
      for (const [id, under] of this.#endedUnder) if (under === held) this.#stored.add(id);
      this.state.forget(held, new Error("given back"));
      await this.#claim(held.number);
    }
  }

  /** Another worker has had a partition, and it comes back with what is stored. */
  async lose(number: number): Promise<void> {
    const held = this.state.partitions.get(number % this.kind.partitions);
    if (held === undefined) return;
    this.state.forget(held, new Error("lost"));
    await this.#claim(held.number);
  }

  /** A partition is to be given back. */
  release(number: number): void {
    const held = this.state.partitions.get(number % this.kind.partitions);
    if (held !== undefined) this.state.halt(held, "release");
  }

  /** An operator asks for the next attempt at once, as hark.retry does. */
  async hurry(at: number): Promise<void> {
    const chosen = this.#someWaiting(at);
    if (chosen === undefined) return;
    const hurried = ++this.#changes;
    for (const row of this.waiting.values()) {
      const isBefore = row.key !== null && row.key === chosen.key && row.id < chosen.id;
      if (row === chosen || isBefore) row.hurried = hurried;
    }
    await this.#look();
    for (const { id, hurried: of } of this.waiting.values()) {
      const entry = this.state.entries.rows.waiting.get(id);
      if (of !== hurried || entry === undefined || entry.startedAt === 0) continue;
      assert(entry.wait?.again, `${id} runs, and is not tried again at once if it fails`);
    }
  }

  /** An operator gives up what waits, as hark.discard does. */
  async discard(at: number): Promise<void> {
    const row = this.#someWaiting(at);
    if (row === undefined) return;
    this.waiting.delete(row.id);
    this.#done.add(row.id);
    this.ended.add(row.id);
    await this.#look();
    // A handler that runs for it goes on to its end. No other is called.
    this.#stored.add(row.id);
  }

  /** What was handled is to be handled once more, as hark.replay and the retry of a dead letter ask. */
  async replay(from: number, count: number): Promise<void> {
    // Not while it is still to be stored that one has ended: that would end its replay, too.
    const passed = this.log.filter(({ id, partition }) =>
      this.ended.has(id) && !this.waiting.has(id) && id <= this.#positions[partition]! &&
      !this.state.entries.rows.outcomes.has(id)
    );
    const chosen = passed.slice(from % Math.max(1, passed.length)).slice(0, count);
    if (chosen.length === 0) return;
    this.#changes++;
    for (const row of chosen) {
      this.waiting.set(row.id, { ...row });
      // Its handler may still run, although it was discarded. Then it is no new one, and in its place.
      const runs = [...this.#inHand].some(({ id }) => id === row.id);
      this.#replays.set(row.id, runs ? -row.id : this.#changes);
      this.ended.delete(row.id);
      this.#stored.delete(row.id);
      this.#endedUnder.delete(row.id);
    }
    await this.#look();
  }

  #someWaiting(at: number): Published | undefined {
    return [...this.waiting.values()][at % Math.max(1, this.waiting.size)];
  }

  /** The worker hears that rows were added, changed or removed, and looks. */
  async #look(): Promise<void> {
    await this.#waiting.findWaiting(this.#session, [...this.state.partitions.values()]);
    for (const entry of this.state.entries.rows.waiting.values()) {
      if (!this.#heldOf.has(entry)) {
        this.#heldOf.set(entry, this.state.partitions.get(entry.partition)!);
      }
    }
    if (this.state.entries.queue.wantsLoading) await this.#waiting.load(this.#session);
    this.check();
  }

  async #claim(number: number): Promise<void> {
    const claimed = { partition: number, epoch: ++this.#epoch, position: page, crashes: 0 };
    const held = new OwnedPartition(claimed as unknown as Claimed, 1000, this.state.run.abandon);
    this.state.partitions.set(number, held);
    this.#read[number] = this.#positions[number]!;
    for (const id of this.#done) if (this.log[id - 1]!.partition === number) held.done.add(id);
    await this.#waiting.findWaiting(this.#session, [held]);
    for (const entry of this.state.entries.rows.waiting.values()) {
      if (entry.partition === number) this.#heldOf.set(entry, held);
    }
  }

  /** Answers what the intake asks. */
  readonly #session: Queryable = {
    query: (text, values) => {
      const numbers = (value: unknown) =>
        String(value).slice(1, -1).split(",").filter(Boolean).map(Number);
      const [, list, after] = values!;
      const rows = [...this.waiting.values()].sort((a, b) => a.id - b.id);
      if (text.includes("hark.waiting_of(")) {
        const held = numbers(list);
        return Promise.resolve({
          rows: rows.filter((row) => held.includes(row.partition) && row.id > Number(after)).map(
            ({ id, partition, key, hurried = 0 }) => ({
              id,
              partition,
              key,
              state: "failed",
              attempts: 0,
              due_ms: 0,
              hurried,
              passed: id <= this.#positions[partition]!,
            }),
          ),
        });
      }
      assert(text.includes("hark.waiting_rows("), text);
      return Promise.resolve({
        rows: rows.filter(({ id }) => numbers(list).includes(id)).map(({ id, key, readable }) => ({
          ...this.#row(id, key, readable),
          created_at: 0,
        })),
      });
    },
  };

  /** From here on every handler succeeds; fails where that does not end everything. */
  async finish(): Promise<void> {
    for (let idle = 0, rounds = 0; idle < 4; idle++) {
      assert(++rounds < 1000, "it goes round in circles");
      const before = this.ended.size + this.calls.length;
      await this.read(Infinity);
      this.pump();
      for (let n = 0; this.calls.length > 0; n++) {
        assert(n < 1000, "it goes round in circles");
        await this.settle(0, { how: "succeeds", mask: 0 });
      }
      this.acknowledge();
      await this.finishHalts();
      await this.wake(true);
      if (this.ended.size + this.calls.length !== before || this.state.entries.queue.hasReady) {
        idle = 0;
      }
    }
    const left = this.log.filter(({ id }) => !this.ended.has(id)).map(({ id }) => id);
    assert.deepEqual(left, [], "forgotten");
    assert.deepEqual([...this.waiting.keys()], [], "left in hark.waiting");
  }
}
