/**
 * The smallest readers that keep the rules of marks, for tests of the SQL alone: one that is registered
 * and leaves its position in the database, one that carries its position itself.
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

/** A mark, for tests that look inside. */
export interface MarkFields {
  readonly number: number;
  readonly maxId: number;
  readonly floor: number;
  readonly stragglers: string[];
  readonly lows: number[];
}

/** A position: marks by content, and ids. */
export interface Place {
  readonly seen: string;
  readonly target: string | null;
  readonly lastId: number | null;
  readonly afterId: number;
}

/** One page: what it delivered, how far its window was read, and whether it ended there. */
export interface Page {
  readonly rows: Delivered[];
  readonly lastId: number;
  readonly end: boolean;
}

const columns = `r.id, r.channel, r.key, r.payload, r.is_replay, r.last_id, r.window_end`;

/** Cuts a mark, and gives its content. */
export async function cut(client: Client): Promise<string> {
  const { rows: [row] } = await client.query("select hark.content_of(hark.cut()) as mark");
  return row.mark;
}

/** Looks where the log is, and gives the content of a private mark. */
export async function look(client: Client): Promise<string> {
  const { rows: [row] } = await client.query("select hark.content_of(hark.look()) as mark");
  return row.mark;
}

/** The number of a mark, from its content. */
export function numberOf(mark: string): string {
  return /^\((-?\d+),/.exec(mark)![1]!;
}

/** A place as an acknowledgement takes it: marks, seen, targets, last ids, ids it began behind. */
export function stored({ seen, target, lastId, afterId }: Place): unknown[] {
  return [
    target === null ? [seen] : [seen, target],
    numberOf(seen),
    target === null ? null : numberOf(target),
    target === null ? 0 : lastId,
    afterId,
  ];
}

/** SQL of a position that was claimed. */
export const claimedColumns =
  `partition, epoch, hark.content_of(seen) as seen, hark.content_of(target) as target, last_id, after_id`;

/** The position that was claimed. */
export function claimedPlace(row: Row): Place {
  const { seen, target } = row;
  return { seen, target, lastId: Number(row.last_id), afterId: Number(row.after_id) };
}

abstract class Reader {
  /** Everything delivered so far, in order. */
  readonly delivered: Delivered[] = [];
  position!: Place;
  /** Whether it opens windows to private marks. */
  looks = false;
  protected started: string | null = null;

  constructor(readonly client: Client, readonly limits: PageLimits = {}) {}

  protected abstract read(at: Place, limits: unknown[]): Promise<{ rows: Row[] }>;
  /** A private mark to read to. Null if it is made by the statement that reads the page. */
  protected look(): Promise<string | null> {
    return look(this.client);
  }
  /** Stores where it is, if it stores that. */
  abstract acknowledge(handled?: number): Promise<void>;

  /** Reads one page, opening a window where none is open; does not acknowledge. */
  async page(): Promise<Page> {
    const { rows: maxRows = 500, bytes = 1_000_000, scanned = 10_000 } = this.limits;
    if (this.position.target === null) {
      const target = this.looks ? await this.look() : await cut(this.client);
      this.position = { ...this.position, target, lastId: null };
    }
    const at = this.position;
    this.started ??= at.target ?? await cut(this.client);
    const { rows } = await this.read(at, [maxRows, bytes, scanned, this.started]);
    const end = rows.at(-1)!;
    if (end.id !== null) {
      throw new Error("the last row of a page has to be the one that says where it ends");
    }
    this.position = { ...at, target: end.target ?? at.target, lastId: Number(end.last_id) };
    const delivered: Delivered[] = rows.slice(0, -1).map((row) => {
      const { id, channel, key, payload, is_replay: isReplay } = row;
      return { id: Number(id), channel, key, payload, isReplay };
    });
    this.delivered.push(...delivered);
    return { rows: delivered, lastId: Number(end.last_id), end: end.window_end };
  }

  /** Goes past a window that is read to its end. */
  pass(): void {
    const { target, afterId } = this.position;
    this.position = { seen: target!, target: null, lastId: null, afterId };
  }

  /** Reads one page and stores where it is, if that is worth it. */
  async step(): Promise<Page> {
    const page = await this.page();
    if (page.end) this.pass();
    if (page.rows.length > 0) await this.acknowledge(page.rows.length);
    return page;
  }

  /** Reads until a window that was opened after this call has been read to its end. */
  async drain(): Promise<Delivered[]> {
    const from = this.delivered.length;
    for (let ends = 0; ends < 2;) if ((await this.step()).end) ends++;
    return this.delivered.slice(from);
  }

  /** Reads one window to its end and stores that. */
  async window(): Promise<Delivered[]> {
    const from = this.delivered.length;
    while (!(await this.page()).end);
    this.pass();
    await this.acknowledge(this.delivered.length - from);
    return this.delivered.slice(from);
  }

  /** What is in the mark that counts as seen. */
  async fields(): Promise<MarkFields> {
    const { rows: [row] } = await this.client.query(
      `select (m).number, (m).max_id, (m).floor, (m).stragglers::text[] as stragglers, (m).lows::text[] as lows
       from (select $1::hark.marks as m) x`,
      [this.position.seen],
    );
    return {
      number: Number(row.number),
      maxId: Number(row.max_id),
      floor: Number(row.floor),
      stragglers: row.stragglers,
      lows: row.lows.map(Number),
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
    const { rows: [row] } = await this.client.query(
      `select ${claimedColumns} from hark.claim($1, $2, $3)`,
      [this.consumer, [this.partition], this.owner],
    );
    if (row === undefined) throw new Error("another worker has the partition");
    this.epoch = row.epoch;
    this.position = claimedPlace(row);
    this.started = null;
  }

  /** Gives the consumer back. */
  async release(): Promise<void> {
    await this.client.query("select hark.release($1, $2, $3, $4)", this.identity);
  }

  /** Starts again as another process would: a new owner, nothing remembered. */
  async restart(): Promise<void> {
    await this.acknowledge();
    await this.release();
    this.owner = crypto.randomUUID();
    await this.claim();
  }

  protected override look(): Promise<null> {
    return Promise.resolve(null);
  }

  protected read({ seen, target, lastId, afterId }: Place, limits: unknown[]) {
    return this.client.query(
      `select ${columns}, hark.content_of(w.target) as target
       from hark.window($1, $2, $3, $4, $5::hark.marks, $6, $7::hark.marks) w,
         lateral ${
        pageRows(`$7::hark.marks, w.target, $8, $9, w.channels, $10, $11, $12,
           $13::hark.marks, w.filter, w.partitions, $3`)
      } r`,
      [...this.identity, target, lastId === null, seen, lastId, afterId, ...limits],
    );
  }

  async acknowledge(handled = 0, client: Client = this.client): Promise<void> {
    // A window of which nothing was read is not stored.
    const { seen, target, lastId, afterId } = this.position;
    const begun = target !== null && lastId === null
      ? { seen, target: null, lastId, afterId }
      : this.position;
    await client.query(
      `select hark.acknowledge($1, $2, $3, $4, $5::hark.marks[], array[$6::bigint], array[$7::bigint],
         array[$8::bigint], array[$9::bigint], array[$10]::bigint[], array[true])`,
      [...this.identity, ...stored(begun), handled],
    );
  }
}

/** A reader that nothing in the database knows of. */
export class UnregisteredReader extends Reader {
  constructor(client: Client, readonly channels: string[] | null, limits: PageLimits = {}) {
    super(client, limits);
  }

  /** Takes a position. */
  static async open(
    client: Client,
    channels: string[] | null,
    start: Start = { kind: "beginning" },
    limits: PageLimits = {},
  ): Promise<UnregisteredReader> {
    const reader = new UnregisteredReader(client, channels, limits);
    if ("kind" in start && start.kind === "now") {
      reader.position = { seen: await cut(client), target: null, lastId: null, afterId: 0 };
      return reader;
    }
    const { rows: [row] } = await client.query(
      "select hark.content_of(p.seen) as seen, p.after_id from hark.start_position($1, $2, $3) p",
      startValues(start),
    );
    reader.position = { seen: row.seen, target: null, lastId: null, afterId: Number(row.after_id) };
    return reader;
  }

  protected read({ seen, target, lastId, afterId }: Place, limits: unknown[]) {
    return this.client.query(
      `select ${columns}
       from ${
        pageRows("$1::hark.marks, $2::hark.marks, $3, $4, $5, $6, $7, $8, $9::hark.marks")
      } r`,
      [seen, target, lastId, afterId, this.channels, ...limits],
    );
  }

  override acknowledge(): Promise<void> {
    return Promise.resolve();
  }
}
