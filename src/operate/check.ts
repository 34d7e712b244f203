/**
 * Whether consumers are within limits, for monitoring systems.
 *
 * @module
 */

import { bad, consumerName, knownOptions, wholeNumber } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { ageBounds, type Duration, durationMs } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { requireSchema } from "../schema/migrate.ts";
import { durationText, numberText } from "../show.ts";
import { timeAgo } from "./holding.ts";
import { type ConsumerStatus, consumerStatuses, hasWork, sleepsWell } from "./consumer_status.ts";
import { date, ms } from "./times.ts";

/** Options of {@linkcode check}. A limit that is left out is not checked. */
export interface CheckOptions {
  /** Only these consumers. All of them unless given. */
  readonly consumers?: readonly string[];
  /**
   * The maximum age of the oldest unread notification, and how long a delayed one may be overdue: a
   * {@linkcode Duration} of 0 to 100,000 days.
   */
  readonly maxLag?: Duration;
  /** The maximum number of unread notifications of a consumer, 0 to 1,000,000. */
  readonly maxUnread?: number;
  /** The maximum number of dead letters of a consumer, 0 to 1,000,000. */
  readonly maxDead?: number;
  /** The maximum number of a consumer's waiting notifications, 0 to 1,000,000. */
  readonly maxWaiting?: number;
  /** The maximum age of the oldest notification that a consumer has not finished: unread or waiting. */
  readonly maxAge?: Duration;
}

/** A cause for an alert. */
export interface CheckCause {
  /** `"critical"`: a limit is exceeded. `"warning"`: a sign of trouble that no limit is about. */
  readonly level: "warning" | "critical";
  /** The consumer; null if it is about all of them. */
  readonly consumer: string | null;
  /**
   * What it is about: the limit's subject (`"lag"`, `"unread"`, `"dead"`, `"waiting"`, `"age"`,
   * `"delayed"`), or `"unserved"`, `"halted"` or `"uncounted"`.
   */
  readonly what: string;
  /** The value, in ms or as a number; null if there is none. */
  readonly value: number | null;
  /** The limit, in ms or as a number; null if there is none. */
  readonly limit: number | null;
  /** The cause as a sentence. */
  readonly message: string;
}

/** The result of {@linkcode check}. */
export interface CheckResult {
  /** The worst level of the causes. */
  readonly level: "ok" | "warning" | "critical";
  /** How many consumers were looked at. */
  readonly consumers: number;
  /** The causes, by consumer. Empty if all is well. */
  readonly causes: readonly CheckCause[];
}

/**
 * Compares consumers with limits, for a monitoring system. A limit that is exceeded is critical.
 * Without a limit, it warns of a consumer that has something to do and that no worker serves, and of
 * partitions that are held up. A paused consumer is not warned of, and its limits count.
 *
 * @throws {HarkError} `NO_CONSUMER` if one of `consumers` is not registered; `BAD_OPTION`; `NO_PERMISSION`
 * without `hark.grant_consume`, `hark.grant_operate` or `hark.grant_observe`; `NO_SCHEMA` and so on.
 * @example
 * ```ts
 * import { check, connect } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { level, causes } = await check(db, { maxLag: "5m", maxDead: 0 });
 * for (const { message } of causes) console.log(level, message);
 * ```
 */
export async function check(db: Queryable, limits: CheckOptions = {}): Promise<CheckResult> {
  knownOptions("check", limits, [
    "consumers",
    "maxLag",
    "maxUnread",
    "maxDead",
    "maxWaiting",
    "maxAge",
  ]);
  const { consumers } = limits;
  if (consumers !== undefined && (!Array.isArray(consumers) || consumers.length === 0)) {
    bad("consumers", consumers, "Give an array of at least one consumer.");
  }
  const names = consumers?.map(consumerName);
  const most = (name: "maxUnread" | "maxDead" | "maxWaiting") =>
    limits[name] === undefined ? Infinity : wholeNumber(name, limits[name], 0, 0, 1_000_000);
  const age = (name: "maxLag" | "maxAge") =>
    limits[name] === undefined ? Infinity : durationMs(name, limits[name], 0, ageBounds);
  const given: Limits = {
    lag: age("maxLag"),
    age: age("maxAge"),
    unread: most("maxUnread"),
    dead: most("maxDead"),
    waiting: most("maxWaiting"),
  };
  // One more than the limit is enough to know that it is exceeded.
  const counted = [given.unread, given.dead, given.waiting].filter(Number.isFinite);
  const maxCount = Math.max(1000, ...counted.map((limit) => limit + 1));
  await requireSchema(db);
  const found = await translated(() => consumerStatuses(db, maxCount));
  const unknown = names?.find((name) => !found.some(({ consumer }) => consumer === name));
  if (unknown !== undefined) {
    throw new HarkError("NO_CONSUMER", `there is no consumer "${unknown}"`, {
      remedy: "See hark consumers list.",
    });
  }
  const looked = found.filter(({ consumer }) => names?.includes(consumer) ?? true);
  const now = (await timeAgo(db, 0)).getTime();
  const causes = [
    ...looked.flatMap((one) => [...exceeded(one, given), ...signs(one, given)]),
    ...names === undefined ? await overdue(db, given, now) : [],
  ];
  return {
    level: causes.some(({ level }) => level === "critical")
      ? "critical"
      : causes.length > 0
      ? "warning"
      : "ok",
    consumers: looked.length,
    causes,
  };
}

interface Limits {
  readonly lag: number;
  readonly age: number;
  readonly unread: number;
  readonly dead: number;
  readonly waiting: number;
}

function critical(
  consumer: string | null,
  what: string,
  value: number,
  limit: number,
  message: string,
): CheckCause[] {
  return value > limit ? [{ level: "critical", consumer, what, value, limit, message }] : [];
}

function exceeded(one: ConsumerStatus, limits: Limits): CheckCause[] {
  const { consumer, unread, unreadCapped, dead, waiting } = one;
  const lag = one.lagSeconds * 1000;
  const age = Math.max(lag, one.waitingSeconds * 1000);
  const count = (value: number) =>
    `${numberText(value)}${value > 0 && unreadCapped ? " or more" : ""}`;
  return [
    ...critical(
      consumer,
      "lag",
      lag,
      limits.lag,
      `its oldest unread notification is ${durationText(lag)} old, more than ${
        durationText(limits.lag)
      }`,
    ),
    ...critical(
      consumer,
      "age",
      age,
      limits.age,
      `its oldest unfinished notification is ${durationText(age)} old, more than ${
        durationText(limits.age)
      }`,
    ),
    ...critical(
      consumer,
      "unread",
      unread,
      limits.unread,
      `${count(unread)} unread, more than ${numberText(limits.unread)}`,
    ),
    ...critical(
      consumer,
      "waiting",
      waiting,
      limits.waiting,
      `${numberText(waiting)} waiting, more than ${numberText(limits.waiting)}`,
    ),
    ...critical(
      consumer,
      "dead",
      dead,
      limits.dead,
      `${numberText(dead)} ${dead === 1 ? "dead letter" : "dead letters"}, more than ${
        numberText(limits.dead)
      }`,
    ),
  ];
}

function signs(one: ConsumerStatus, limits: Limits): CheckCause[] {
  const { consumer, unread, unreadCapped, serving, pausedAt, halted } = one;
  const warning = (what: string, message: string): CheckCause => ({
    level: "warning",
    consumer,
    what,
    value: null,
    limit: null,
    message,
  });
  return [
    ...!serving && !sleepsWell(one) && pausedAt === null && hasWork(one)
      ? [warning("unserved", "no worker serves it, and it has something to do")]
      : [],
    ...halted.map(({ partition, reason, id }) =>
      warning("halted", `partition ${partition} is held up (${reason}) by notification ${id}`)
    ),
    // Counting also stops after a million ids, and after 5 s.
    ...unreadCapped && unread <= limits.unread && limits.unread !== Infinity
      ? [warning("uncounted", "its backlog is too long to be counted")]
      : [],
  ];
}

/** Delayed notifications that no worker has delivered. */
async function overdue(db: Queryable, { lag }: Limits, now: number): Promise<CheckCause[]> {
  if (lag === Infinity) return [];
  const { rows: [row] } = await translated(() =>
    db.query(`select ${ms("next_at")} from hark.delayed_status(1)`)
  );
  const due = date(row.next_at);
  const late = due === null ? 0 : now - due.getTime();
  return critical(
    null,
    "delayed",
    late,
    lag,
    `a delayed notification is overdue by ${durationText(late)}, more than ${durationText(lag)}`,
  );
}
