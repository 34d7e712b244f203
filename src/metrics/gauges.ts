/**
 * How a process and its databases are now.
 *
 * @module
 */

import { pause } from "../database/bell.ts";
import { type Place, placed, type Queryable } from "../database/queryable.ts";
import { messageOf } from "../database/translate.ts";
import { getLogger } from "../log/logger.ts";
import { type About, connectedDatabases, ofConsumer, seam } from "../observe/seam.ts";
import type { Series } from "./registry.ts";
import type { MetricName } from "./table.ts";

const logger = getLogger(["hark", "metrics"]);

/** For how long a measurement of a database counts, in ms. */
const freshTime = 15_000;
/** How long a look waits for the database, in ms. */
const patience = 3000;
/** From when on an old measurement tells nothing any more, in ms. */
const staleTime = 60_000;
/** How long this process stays the reporter without asking again, in ms: at least, and at most. */
const hold = { least: 45_000, most: 900_000 };

/** What hark.measure returns. */
interface Measured {
  readonly consumers: readonly {
    readonly consumer: string;
    readonly lag: number;
    readonly lag_time: number;
    readonly waiting: number;
    readonly dead: number;
    readonly workers: number;
  }[];
  readonly inboxes: readonly {
    readonly inbox: string;
    readonly dead: number;
    readonly lag: number | null;
    readonly stuck: number;
  }[];
  readonly relays: readonly {
    readonly relay: string;
    readonly stuck: number;
    readonly failing: number;
    readonly disabled: number;
  }[];
  readonly log_size: number;
  readonly log_rows: number;
  readonly held_back: readonly { readonly consumer: string; readonly seconds: number }[];
  readonly queue: number;
  readonly horizon: number;
  readonly due: number;
}

/** Measures one database, in turns with the other processes. */
class Measuring {
  readonly #db: Queryable;
  #last: { readonly at: number; readonly measured: Measured | null } | undefined;
  #askedAt: number | undefined;
  #asking: Promise<void> | undefined;

  constructor(db: Queryable) {
    this.#db = db;
  }

  /**
   * The measurement. Null if another process reports; undefined if there is none that still counts.
   *
   * @param isAwake Whether the database may be asked for a new one. A server that is suspended would wake.
   */
  async look(isAwake: boolean): Promise<Measured | null | undefined> {
    const now = performance.now();
    // The time asleep is no interval between two questions. It would hold the place of the reporter for as long.
    if (!isAwake) this.#askedAt = undefined;
    if (isAwake && (this.#last === undefined || now - this.#last.at >= freshTime)) {
      this.#asking ??= this.#ask(now).finally(() => this.#asking = undefined);
      const over = new AbortController();
      await Promise.race([this.#asking, pause(patience, over.signal)]);
      over.abort();
    }
    const last = this.#last;
    return last !== undefined && performance.now() - last.at < staleTime
      ? last.measured
      : undefined;
  }

  async #ask(now: number): Promise<void> {
    // It is asked for each time that metrics are collected: at intervals that it does not know.
    const interval = now - (this.#askedAt ?? now);
    this.#askedAt = now;
    const wanted = Math.round(Math.min(Math.max(2.5 * interval, hold.least), hold.most));
    try {
      const { rows: [row] } = await this.#db.query(
        "select hark.measure($1::uuid, $2::integer)::text as measured",
        [process, wanted],
      );
      const measured = row.measured === null ? null : JSON.parse(row.measured);
      this.#last = { at: performance.now(), measured };
    } catch (error) {
      logger.warn("Could not measure the database: {reason}", { reason: messageOf(error) });
    }
  }
}

/** Names this process, or this thread of it. */
const process = crypto.randomUUID();
const measuring = new WeakMap<object, Measuring>();

/** A database that is measured. */
interface Used {
  readonly db: Queryable;
  /** Whether one of its consumers is awake. If all sleep, the server may be suspended. */
  isAwake: boolean;
}

/** The databases on which consumers run in this process, and one more, by what their connections are. */
function databases(observed: Queryable | undefined): Map<object, Used> {
  const found = new Map<object, Used>();
  if (observed !== undefined) {
    found.set(connectionOf(observed), { db: observed, isAwake: true });
  }
  for (const { db, asleep } of seam.runs) {
    const known = found.get(connectionOf(db));
    if (known === undefined) found.set(connectionOf(db), { db, isAwake: !asleep });
    else known.isAwake ||= !asleep;
  }
  return found;
}

/** What is the same object for all that use the same database of this process. */
function connectionOf(db: Queryable): object {
  return (db as { readonly [placed]?: Place })[placed] ?? db;
}

function one(metric: MetricName, value: number, about: About = {}): Series {
  return { metric, value, about };
}

/**
 * Looks at everything.
 *
 * @param reports Whether this process takes part in reporting how databases are.
 * @param observed A database that is reported though no consumer runs on it here.
 */
export async function look(reports: boolean, observed?: Queryable): Promise<Series[]> {
  const series: Series[] = [];
  const consumers = Map.groupBy(seam.runs, ({ consumer }) => consumer);
  for (const [consumer, runs] of consumers) {
    const sum = (of: (run: typeof runs[number]) => number) =>
      runs.reduce((all, r) => all + of(r), 0);
    series.push(
      one("hark.consumer.in_flight", sum((run) => run.inFlight), ofConsumer(consumer)),
      one("hark.partition.owned", sum((run) => run.partitions), ofConsumer(consumer)),
    );
  }
  const connected = connectedDatabases();
  series.push(
    one("hark.connections", connected.reduce((sum, { open }) => sum + open, 0)),
    one(
      "hark.listener.connected",
      connected.filter(({ listening }) => listening === true).length,
    ),
  );
  if (seam.streams.size > 0) {
    const all = [...seam.streams];
    series.push(
      one("hark.stream.clients", all.reduce((sum, { clients }) => sum + clients, 0)),
      one("hark.stream.readers", all.reduce((sum, { readers }) => sum + readers, 0)),
    );
  }
  return reports ? [...series, ...await lookAtDatabases(observed)] : series;
}

async function lookAtDatabases(observed: Queryable | undefined): Promise<Series[]> {
  const all = [...databases(observed)].map(async ([key, { db, isAwake }]) => {
    let known = measuring.get(key);
    if (known === undefined) measuring.set(key, known = new Measuring(db));
    const place = (db as { readonly [placed]?: Place })[placed]?.database;
    const about: About = place === undefined ? {} : { "db.namespace": place };
    const measured = await known.look(isAwake);
    const reporting = measured ? 1 : measured === undefined && !isAwake ? -1 : 0;
    return [
      one("hark.reporting", reporting, about),
      ...(measured ? seriesOf(measured, about) : []),
    ];
  });
  return (await Promise.all(all)).flat();
}

function seriesOf(measured: Measured, about: About): Series[] {
  const of = (consumer: string) => ({ ...about, ...ofConsumer(consumer) });
  return [
    ...measured.consumers.flatMap((found) => [
      one("hark.consumer.lag", found.lag, of(found.consumer)),
      one("hark.consumer.lag.time", found.lag_time, of(found.consumer)),
      one("hark.consumer.waiting", found.waiting, of(found.consumer)),
      one("hark.consumer.dead", found.dead, of(found.consumer)),
      one("hark.consumer.workers", found.workers, of(found.consumer)),
    ]),
    ...measured.held_back.map(({ consumer, seconds }) =>
      one("hark.cleanup.held_back", seconds, of(consumer))
    ),
    ...measured.inboxes.flatMap(({ inbox, dead, lag, stuck }) => [
      one("hark.inbox.dead", dead, { ...about, "hark.inbox": inbox }),
      ...lag === null ? [] : [one("hark.inbox.lag", lag, { ...about, "hark.inbox": inbox })],
      one("hark.inbox.stuck", stuck, { ...about, "hark.inbox": inbox }),
    ]),
    ...measured.relays.flatMap(({ relay, stuck, failing, disabled }) => [
      one("hark.relay.stuck", stuck, of(relay)),
      one("hark.relay.endpoints.failing", failing, of(relay)),
      one("hark.relay.endpoints.disabled", disabled, of(relay)),
    ]),
    one("hark.log.size", measured.log_size, about),
    one("hark.log.rows", measured.log_rows, about),
    one("hark.server.notify_queue.usage", measured.queue, about),
    one("hark.server.horizon.age", measured.horizon, about),
    one("hark.delayed.due", measured.due, about),
  ];
}
