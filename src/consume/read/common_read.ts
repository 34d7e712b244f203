/**
 * Consumers of a process that stand at one place of the log read in common.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { pause } from "../../database/bell.ts";
import { type OwnConnection, ownConnection, type Queryable } from "../../database/queryable.ts";
import { messageOf, translate } from "../../database/translate.ts";
import { getLogger } from "../../log/logger.ts";
import { isPrivate, type Mark, seeTheSame } from "../state/position.ts";
import { readInCommon, type Share, type Wish } from "./common_page.ts";
import { look } from "./look.ts";

const logger = getLogger(["hark", "consumer"]);

/** How long those that ask wait for a page that is on its way for several, in milliseconds. */
const gathering = 20;
/** How long a page in common is waited for, in milliseconds. After that each reads by itself. */
const patience = 1000;

/** A worker that asks for a page. */
export interface Asker<T> {
  readonly wish: Wish;
  /** Whether most of what is read for it is of no use to others: only its equals read with it. */
  readonly isHeavy: boolean;
  /** Called when the server has been asked. */
  sent(): void;
  /** Takes what a page has for it. */
  take(share: Share): T;
  /**
   * Reads by itself.
   *
   * @param mark Where a window ends that is opened, if the wish does not say it.
   * @param isRefused Whether it may not read with others, or the page that it has in common with others did not come.
   */
  alone(mark: Mark | undefined, isRefused: boolean): Promise<T>;
}

interface Asking {
  readonly session: OwnConnection;
  // deno-lint-ignore no-explicit-any -- each gets what its own functions make
  readonly asker: Asker<any>;
  // deno-lint-ignore no-explicit-any -- as above
  readonly answer: PromiseWithResolvers<any>;
  hasFailed?: boolean;
}

const lines = new WeakMap<object, Line>();

/**
 * Reads a page for a worker: with others that share its connections and ask for the same one, or by
 * itself.
 */
export async function readTogether<T>(session: Queryable, asker: Asker<T>): Promise<T> {
  const own = ownConnection(session);
  if (own?.sibling === undefined) return await asker.alone(undefined, false);
  let line = lines.get(own.shared);
  if (line === undefined) lines.set(own.shared, line = new Line());
  return await line.ask(own, asker);
}

/**
 * Where readers gather while others read, for one turn in common. One that is slow, or that does not
 * come, is not waited for.
 */
class Line {
  #asking: Asking[] = [];
  /** The turn that is under way. */
  #turn: Promise<void> | undefined;
  /** Whether several had the last turn. Then the first that asks gives the others time to. */
  #isCrowded = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  async ask<T>(session: OwnConnection, asker: Asker<T>): Promise<T> {
    const answer = Promise.withResolvers<T>();
    this.#asking.push({ session, asker, answer });
    if (this.#asking.length === 1) {
      if (this.#turn === undefined && !this.#isCrowded) this.#begin();
      else if (this.#turn === undefined || !this.#isCrowded) setImmediate(() => this.#begin());
      else this.#timer = setTimeout(() => this.#begin(), gathering);
    }
    return await answer.promise;
  }

  #begin(): void {
    clearTimeout(this.#timer);
    const asking = this.#asking;
    if (asking.length === 0) return;
    this.#asking = [];
    this.#isCrowded = asking.length > 1;
    const turn: Promise<void> = serve(asking).then(() => {
      if (this.#turn !== turn) return;
      this.#turn = undefined;
      // Those that were served come again at once, if there is more to read.
      if (this.#asking.length > 0) setImmediate(() => this.#begin());
    });
    this.#turn = turn;
  }
}

/** Reads for all that have asked. Never rejects, and returns when the pages in common have come. */
async function serve(asking: readonly Asking[]): Promise<void> {
  if (asking.length === 1) return await alone(asking[0]!, undefined, false);
  const groups = [...Map.groupBy(asking, placeOf).values()];
  const opening = groups.filter(([one]) => one!.asker.wish.place.target === undefined);
  // They come together where their windows end.
  const mark = opening.length > 1 ? await lookFor(asking) : undefined;
  await Promise.all(groups.map((group) => readFor(group, mark)));
}

function placeOf({ asker: { wish: { place, partitions }, isHeavy } }: Asking): string {
  const { seen, target, lastId } = place;
  return [seen.life, seen.number, target?.life, target?.number, lastId, partitions, isHeavy].join();
}

/** Where the log is. Undefined if that does not come. */
async function lookFor(asking: readonly Asking[]): Promise<Mark | undefined> {
  const looking = look(asking[0]!.session);
  tell(asking);
  return (await inTime(looking))?.mark;
}

/**
 * Reads a page for those at one place. Does not wait for one that reads by itself.
 *
 * @param mark Where windows end that are opened.
 */
async function readFor(group: readonly Asking[], mark: Mark | undefined): Promise<void> {
  const { seen, target } = group[0]!.asker.wish.place;
  const isThere = target === undefined && isPrivate(mark) && seeTheSame(mark, seen);
  if (group.length === 1 || isThere) {
    for (const one of group) if (!one.hasFailed) void alone(one, mark, false);
    return;
  }
  const lane = group[0]!.session.sibling!();
  const reading = readInCommon(lane.reading, group.map(({ asker: { wish } }) => wish), mark);
  tell(group);
  const shares = await inTime(reading.finally(() => lane.close()));
  const end = shares?.find((share) => share !== undefined)?.target ?? mark;
  for (const [n, one] of group.entries()) {
    const share = shares?.[n];
    if (one.hasFailed) continue;
    if (share === undefined) void alone(one, end, true);
    else take(one, share);
  }
}

/** Tells each that the server has been asked. What goes wrong there is for that one only, and it takes no page. */
function tell(asking: readonly Asking[]): void {
  for (const one of asking) {
    try {
      one.asker.sent();
    } catch (error) {
      one.hasFailed = true;
      one.answer.reject(error);
    }
  }
}

/** Gives one what a page has for it. What goes wrong there is for that one only. */
function take({ asker, answer }: Asking, share: Share): void {
  try {
    answer.resolve(asker.take(share));
  } catch (error) {
    answer.reject(error);
  }
}

async function alone(
  { asker, answer }: Asking,
  mark: Mark | undefined,
  isRefused: boolean,
): Promise<void> {
  const reading = asker.alone(mark, isRefused);
  answer.resolve(reading);
  await reading.then(() => {}, () => {});
}

/** What several ask for. Undefined if it fails, or takes too long. */
async function inTime<T>(asked: Promise<T>): Promise<T | undefined> {
  const over = new AbortController();
  const answer = asked.catch((error) => {
    logger.debug("Consumers could not read in common, and read each by itself: {reason}", {
      reason: messageOf(translate(error)),
    });
    return undefined;
  });
  try {
    return await Promise.race([answer, pause(patience, over.signal).then(() => undefined)]);
  } finally {
    over.abort();
  }
}
