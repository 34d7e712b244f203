/**
 * One look at the database: what the tiles of all pages are made of.
 *
 * @module
 */

import type { Database } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { aDay } from "../duration.ts";
import { type ConsumerStatus, consumerStatuses } from "../operate/consumer_status.ts";
import { diagnose } from "../operate/doctor/diagnose.ts";
import { type Facts, facts, listens } from "../operate/doctor/facts.ts";
import type { Finding } from "../operate/doctor/finding.ts";
import { type Status, statusOf } from "../operate/status.ts";
import { requireSchema } from "../schema/migrate.ts";
import { reading } from "./reading.ts";

/** How far consumers' backlogs are counted: the age of the oldest says more, and is exact. */
export const maxCount = 1000;
/** How long all backlogs together may be counted, in ms. */
const maxMs = 50;
/** How many ids are looked through for one backlog. */
export const maxScanned = 50_000;
/** The number of minutes for which the rate of publishing is shown. */
const minutes = 30;

/** How much was published in a minute. */
export interface Pace {
  /** The end of the minute, in ms since 1970. */
  readonly at: number;
  /** Ids drawn in a second, on average: also those of transactions that rolled back. */
  readonly value: number;
}

/** What a look sees. */
export interface Look {
  /** When. */
  readonly at: Date;
  /** With the consumers as they are now. The rest may be some seconds older. */
  readonly status: Status;
  /** What the doctor says, without what it could not try. */
  readonly findings: readonly Finding[];
  /** What the doctor looks at. */
  readonly facts: Facts;
  /** Published minute by minute, the oldest first. */
  readonly pace: readonly Pace[];
  /** Published in a second now. */
  readonly publishedPerSecond: number;
  /** The rights of the role, by kinds of `hark.grant_…`. */
  readonly rights: { readonly operate: boolean; readonly publish: boolean };
}

const thresholds = { longTransaction: 300_000, maxLogBytes: 10 * 1024 ** 3 };

/** Looks again and again. Most of what changes slowly is looked at every second time. */
export class Looker {
  readonly #db: Database;
  readonly #timeout: number;
  #last: Look | undefined;
  #lastId: { readonly at: number; readonly id: number } | undefined;
  #even = false;
  #listens: { readonly at: number; readonly result: Facts["listens"] } | undefined;

  constructor(db: Database, timeout: number) {
    this.#db = db;
    this.#timeout = timeout;
  }

  /** Looks. @throws {HarkError} */
  async look(): Promise<Look> {
    await requireSchema(this.#db);
    const heard = await this.#heard();
    this.#even = !this.#even;
    const before = this.#last;
    return this.#last = await reading(this.#db, this.#timeout, async (tx) => {
      const consumers = await consumerStatuses(tx, maxCount, maxMs, maxScanned);
      const { at, published } = await this.#published(tx);
      if (before !== undefined && !this.#even) {
        return {
          ...before,
          at,
          status: { ...before.status, consumers },
          publishedPerSecond: published,
        };
      }
      return await this.#whole(tx, at, consumers, published, heard);
    });
  }

  async #whole(
    tx: Queryable,
    at: Date,
    consumers: readonly ConsumerStatus[],
    publishedPerSecond: number,
    heard: Facts["listens"],
  ): Promise<Look> {
    const status = await statusOf(tx, consumers, maxCount, 7 * aDay);
    const seen = await facts(tx, { status, maxCount, listens: heard });
    return {
      at,
      status,
      facts: seen,
      findings: diagnose(seen, thresholds).filter(({ level, code }) =>
        level !== "note" || code !== "pooler"
      ),
      pace: await paceOf(tx),
      publishedPerSecond,
      rights: await rightsOf(tx),
    };
  }

  /** Whether LISTEN works; tried at the first look, then each five minutes, or each minute if it failed. */
  async #heard(): Promise<Facts["listens"]> {
    const now = Date.now();
    const rest = typeof this.#listens?.result === "object" ? 60_000 : 300_000;
    if (this.#listens === undefined || now - this.#listens.at > rest) {
      this.#listens = { at: now, result: await listens(this.#db) };
    }
    return this.#listens.result;
  }

  async #published(tx: Queryable): Promise<{ at: Date; published: number }> {
    const { rows: [row] } = await tx.query(
      `select (extract(epoch from clock_timestamp()) * 1000)::float8 as now,
        (select p.drawn from hark.pace(0) p) as drawn`,
    );
    const [at, id] = [Number(row.now), Number(row.drawn)];
    const before = this.#lastId;
    this.#lastId = { at, id };
    const published = before === undefined || at <= before.at
      ? 0
      : (id - before.id) * 1000 / (at - before.at);
    return { at: new Date(at), published };
  }
}

async function paceOf(tx: Queryable): Promise<Pace[]> {
  const { rows } = await tx.query(
    "select (extract(epoch from at) * 1000)::float8 as at, drawn from hark.pace($1::integer)",
    [minutes],
  );
  return rows.slice(1).map((row, i) => {
    const seconds = (Number(row.at) - Number(rows[i]!.at)) / 1000;
    // The minute that has just begun would say little.
    return seconds < 5 ? undefined : {
      at: Number(row.at),
      value: (Number(row.drawn) - Number(rows[i]!.drawn)) / seconds,
    };
  }).filter((one) => one !== undefined);
}

/** Which kinds of rights the role has, by a function that only that kind has. */
async function rightsOf(tx: Queryable): Promise<Look["rights"]> {
  const { rows: [row] } = await tx.query(
    `select bool_or(p.proname = 'pause' and has_function_privilege(p.oid, 'execute')) as operate,
      bool_or(p.proname = 'notify' and has_function_privilege(p.oid, 'execute')) as publish
    from pg_proc p where p.pronamespace = 'hark'::regnamespace and p.proname in ('pause', 'notify')`,
  );
  return { operate: row.operate === true, publish: row.publish === true };
}
