/**
 * The smallest readers that keep the rules of snapshot windows, for tests of the SQL alone: one that
 * is registered and leaves its position in the database, one that carries its position itself.
 *
 * @module
 */

import type { Client, Row } from "../../harness/mod.ts";
import { pageRows } from "./page_rows.ts";

/** A notification as a reader was given it. */
export interface Delivered {
  readonly id: number;
  readonly channel: string;
  readonly key: string | null;
  // deno-lint-ignore no-explicit-any -- a test knows what it published
  readonly payload: any;
  readonly isReplay: boolean;
}

/** How much a page may hold. */
export interface PageLimits {
  /** Rows. @default {500} */
  readonly rows?: number;
  /** Bytes. @default {1_000_000} */
  readonly bytes?: number;
  /** Rows looked at. @default {10_000} */
  readonly scanned?: number;
}

/** What `hark.position` holds, for tests that look inside. */
export interface PositionFields {
  readonly seen: string;
  readonly seenMax: number;
  readonly floor: number;
  readonly stragglers: string[];
  readonly lows: number[];
  readonly target: string | null;
  readonly lastId: number | null;
}

/** One page: what it delivered, and how far its window was read. */
export interface Page {
  readonly rows: Delivered[];
  readonly lastId: number;
  readonly targetMax: number;
}

/** An empty window is thrown away until it spans so many ids, so that idle reading writes nothing. */
const SPAN = 2_000;

const columns = `r.id, r.channel, r.key, r.payload, r.is_replay, r.position::text,
  (r.position).last_id, (r.position).target_max, (w.position).last_id as began_at,
  (w.position).target::text as target`;

abstract class Reader {
  /** Everything delivered so far, in order. */
  readonly delivered: Delivered[] = [];
  position = "";
  protected started: string | null = null;
  #thrownBackTo: string | undefined;
  #inWindow = 0;
  #beganAt = 0;

  constructor(readonly client: Client, readonly limits: PageLimits = {}) {}

  protected abstract read(limits: unknown[]): Promise<{ rows: Row[] }>;
  /** Moves past what was read, by a transaction that is a fence. */
  abstract acknowledge(handled?: number): Promise<void>;

  /** Forgets the window in memory. */
  protected forget(): void {
    this.#thrownBackTo = undefined;
    this.#inWindow = 0;
  }

  /** Goes on from a stored position. A window that is open in it was begun by somebody else. */
  protected load(position: string, inWindow: boolean): void {
    this.position = position;
    this.#thrownBackTo = undefined;
    // What the other one read of it counts: a window resumed in the middle must not be thrown away,
    // or an empty rest of it would be read for ever.
    this.#inWindow = inWindow ? 1 : 0;
  }

  /** Reads one page, opening a window where none is open; does not acknowledge. */
  async page(): Promise<Page> {
    const { rows: maxRows = 500, bytes = 1_000_000, scanned = 10_000 } = this.limits;
    const before = this.position;
    const { rows } = await this.read([maxRows, bytes, scanned, this.started]);
    const end = rows.at(-1)!;
    if (end.id !== null) {
      throw new Error("the last row of a page has to be the one with the position");
    }
    if (this.#thrownBackTo === undefined) {
      this.#thrownBackTo = before;
      this.#beganAt = Number(end.began_at);
    }
    this.started ??= end.target;
    this.position = end.position;
    const delivered: Delivered[] = rows.slice(0, -1).map((row) => {
      const { id, channel, key, payload, is_replay: isReplay } = row;
      return { id: Number(id), channel, key, payload, isReplay };
    });
    this.delivered.push(...delivered);
    this.#inWindow += delivered.length;
    return { rows: delivered, lastId: Number(end.last_id), targetMax: Number(end.target_max) };
  }

  /** Reads one page and does what the rules ask for after it. */
  async step(): Promise<Page> {
    const page = await this.page();
    const atEnd = page.lastId >= page.targetMax;
    if (page.rows.length > 0 || (atEnd && this.#inWindow > 0)) {
      await this.acknowledge(page.rows.length);
    } else if (atEnd) {
      if (page.targetMax - this.#beganAt > SPAN) await this.acknowledge(0);
      else this.position = this.#thrownBackTo!;
    }
    if (atEnd) this.forget();
    return page;
  }

  /** Reads until a window that was opened after this call has been read to its end. */
  async drain(): Promise<Delivered[]> {
    const from = this.delivered.length;
    for (let ends = 0; ends < 2;) {
      const { lastId, targetMax } = await this.step();
      if (lastId >= targetMax) ends++;
    }
    return this.delivered.slice(from);
  }

  /** Reads one window to its end and moves past it even where it was empty. */
  async window(): Promise<Delivered[]> {
    const from = this.delivered.length;
    for (;;) {
      const { lastId, targetMax } = await this.page();
      if (lastId >= targetMax) break;
    }
    await this.acknowledge(this.delivered.length - from);
    this.forget();
    return this.delivered.slice(from);
  }

  /** The parts of the position in memory. */
  async fields(): Promise<PositionFields> {
    const { rows: [row] } = await this.client.query(
      `select (p).seen::text as seen, (p).seen_max, (p).floor, (p).stragglers::text[] as stragglers,
         (p).lows::text[] as lows, (p).target::text as target, (p).last_id
       from (select $1::hark.position as p) x`,
      [this.position],
    );
    return {
      seen: row.seen,
      seenMax: Number(row.seen_max),
      floor: Number(row.floor),
      stragglers: row.stragglers,
      lows: row.lows.map(Number),
      target: row.target,
      lastId: row.last_id === null ? null : Number(row.last_id),
    };
  }
}

/** Where a reader begins. */
export type Start = { kind: "now" | "beginning" } | { id: number } | { time: string };

function startValues(start: Start): unknown[] {
  if ("kind" in start) return [start.kind, null, null];
  if ("id" in start) return ["id", start.id, null];
  return ["time", null, start.time];
}

/** Renews the lease of a worker, or enters it, as what the consumer is by now. */
export async function attend(client: Client, consumer: string, owner: string): Promise<Row> {
  await client.query("select hark.turn_partitions($1)", [consumer]);
  const { rows: [row] } = await client.query(
    `select a.* from (select $1::text as name) n left join hark.consumers c using (name),
       lateral hark.heartbeat($2, null, 60000, true, null, array[n.name], array[$2::uuid], '{null}',
         json_build_array(json_build_object('channels', coalesce(c.channels, '{}'), 'filter', c.filter,
           'transactional', coalesce(c.transactional, false)))) a`,
    [consumer, owner],
  );
  return row;
}

/** A worker that serves one partition of a consumer, the only one unless told which. */
export class RegisteredReader extends Reader {
  owner: string = crypto.randomUUID();
  epoch = "";
  /** Whether it has gone past windows since it last stored where it is. */
  #unstored = false;

  constructor(
    client: Client,
    readonly consumer: string,
    limits: PageLimits = {},
    readonly partition: number = 0,
  ) {
    super(client, limits);
  }

  /** What says to the server who is asking. */
  get identity(): [consumer: string, owner: string, held: number[], epochs: string[]] {
    return [this.consumer, this.owner, [this.partition], [this.epoch]];
  }

  /** Registers the consumer and claims it. */
  static async open(
    client: Client,
    consumer: string,
    channels: string[],
    start: Start = { kind: "beginning" },
    limits: PageLimits = {},
  ): Promise<RegisteredReader> {
    await client.query("select hark.register($1, $2, $3, $4, $5)", [
      consumer,
      channels,
      ...startValues(start),
    ]);
    const reader = new RegisteredReader(client, consumer, limits);
    await reader.claim();
    return reader;
  }

  /** Claims the consumer and goes on from its stored position, as a worker that starts does. */
  async claim(): Promise<void> {
    await attend(this.client, this.consumer, this.owner);
    const { rows: [row] } = await this.client.query("select * from hark.claim($1, $2, $3)", [
      this.consumer,
      [this.partition],
      this.owner,
    ]);
    if (row === undefined) throw new Error("somebody else has the partition");
    this.epoch = row.epoch;
    this.load(row.position, row.in_window);
    this.started = null;
  }

  /** Gives the consumer back. */
  async release(): Promise<void> {
    await this.client.query("select hark.release($1, $2, $3, $4)", this.identity);
  }

  /** Starts again as another process would: a new owner, nothing remembered. */
  async restart(): Promise<void> {
    if (this.#unstored) await this.acknowledge();
    await this.release();
    this.owner = crypto.randomUUID();
    await this.claim();
  }

  protected read(limits: unknown[]) {
    return this.client.query(
      `select ${columns}
       from hark.window($1, $2, $3, $4, $5::hark.position) w,
         lateral ${
        pageRows(`w.position, w.channels, $6, $7, $8,
           coalesce($9::pg_snapshot, (w.position).target), w.filter, w.partitions, $3`)
      } r`,
      [...this.identity, this.position, ...limits],
    );
  }

  async acknowledge(handled = 0, client: Client = this.client): Promise<void> {
    const { rows: [row] } = await client.query(
      `select (hark.acknowledge($1, $2, $3, $4, array[$5], array[null]::bigint[], array[$6]::bigint[],
         array[true]))[1] as position`,
      [...this.identity, this.position, handled],
    );
    this.position = row.position;
    this.#unstored = false;
  }

  /**
   * Reads a window to its end and goes past it with its last page, as workers do, where the server lets it; gives
   * whether it did.
   */
  async passing(): Promise<boolean> {
    const { rows: maxRows = 500, bytes = 1_000_000, scanned = 10_000 } = this.limits;
    for (;;) {
      const { rows: [row] } = await this.client.query(
        `select g.ids, g.next::text as next, g.position::text as position, g.window_end
         from hark.window($1, $2, $3, $4, $5::hark.position) w,
           lateral hark.page(w.position, w.channels, $6, $7, $8, (w.position).target, fence => true) g`,
        [...this.identity, this.position, maxRows, bytes, scanned],
      );
      this.position = row.next ?? row.position;
      const ids: string[] = row.ids?.split(",") ?? [];
      this.delivered.push(...ids.map((id) => (
        { id: Number(id), channel: "c", key: null, payload: null, isReplay: false }
      )));
      this.#unstored = true;
      if (!row.window_end) continue;
      if (row.next === null) await this.pass();
      this.forget();
      return row.next !== null;
    }
  }

  /** Moves past a window that is read to its end without storing that. */
  async pass(): Promise<void> {
    const { rows: [row] } = await this.client.query(
      "select hark.window_skip($1::hark.position)::text as position",
      [this.position],
    );
    this.position = row.position;
    this.forget();
  }
}

/** A reader that nothing in the database knows of. */
export class UnregisteredReader extends Reader {
  constructor(client: Client, readonly channels: string[] | null, limits: PageLimits = {}) {
    super(client, limits);
  }

  /** Takes a position, and the fence that has to follow it. */
  static async open(
    client: Client,
    channels: string[] | null,
    start: Start = { kind: "beginning" },
    limits: PageLimits = {},
  ): Promise<UnregisteredReader> {
    const reader = new UnregisteredReader(client, channels, limits);
    const { rows: [row] } = await client.query(
      "select hark.start_position($1, $2, $3)::text as position",
      startValues(start),
    );
    reader.position = row.position;
    await reader.fence();
    return reader;
  }

  /** A transaction that takes a number and ends. */
  async fence(): Promise<void> {
    await this.client.query("select pg_current_xact_id()");
  }

  protected read(limits: unknown[]) {
    return this.client.query(
      `select ${columns}
       from (select hark.window_open($1::hark.position) as position offset 0) w,
         lateral ${
        pageRows(`w.position, $2, $3, $4, $5, coalesce($6::pg_snapshot, (w.position).target)`)
      } r`,
      [this.position, this.channels, ...limits],
    );
  }

  async acknowledge(): Promise<void> {
    const { rows: [row] } = await this.client.query(
      "select hark.window_advance($1::hark.position)::text as position",
      [this.position],
    );
    this.position = row.position;
    await this.fence();
  }
}
