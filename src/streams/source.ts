/**
 * What all clients of one handler read from: an edge for each set of channels, and turns for those
 * that are behind it.
 *
 * @module
 */

import { EphemeralReader } from "../consume/read/ephemeral_reader.ts";
import { Link } from "../consume/link.ts";
import { type Replica, replicaOf } from "../consume/read/replica.ts";
import type { Connections } from "../database/connections.ts";
import type { Queryable } from "../database/queryable.ts";
import { Edge, type EdgeOptions } from "./edge.ts";

/** How many clients that are behind read at once. The others wait in line. */
const turns = 2;
/** For how long an edge reads on after its last client has left, in milliseconds. */
const linger = 10_000;
/** The page of a client that is behind. It holds one until the client has taken it. */
const page = { rows: 500, bytes: 256 * 1024, scanned: 20_000 };

interface Shared {
  readonly edge: Edge;
  users: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** What the clients of a handler share. */
export class Source {
  readonly #db: Queryable;
  readonly #connections: Connections;
  readonly #replica: Replica | undefined;
  readonly #options: EdgeOptions;
  readonly #edges = new Map<string, Shared>();
  readonly #line: (() => void)[] = [];
  #reading = 0;
  #link: Promise<Link> | undefined;
  #closed = false;
  /** The first characters of the installation's id, once they are known. */
  install = "";

  constructor(db: Queryable, connections: Connections, options: EdgeOptions) {
    this.#db = db;
    this.#replica = replicaOf(db);
    this.#connections = this.#replica?.connections ?? connections;
    this.#options = options;
  }

  /** How many edges read. */
  get readers(): number {
    return this.#edges.values().filter(({ edge }) => edge.reason === undefined).toArray().length;
  }

  /** The edge of some channels if clients stand there. */
  edgeIfOpen(channels: string[] | null): Edge | undefined {
    const edge = this.#edges.get(keyOf(channels))?.edge;
    return edge?.reason === undefined ? edge : undefined;
  }

  /** The edge of some channels. Leave it when the client has gone. */
  use(channels: string[] | null): { readonly edge: Edge; leave(): void } {
    const key = keyOf(channels);
    let shared = this.#edges.get(key);
    if (shared === undefined || shared.edge.reason !== undefined) {
      clearTimeout(shared?.timer);
      const edge = new Edge(this.#db, channels, this.#options);
      this.#edges.set(key, shared = { edge, users: 0, timer: undefined });
    }
    const mine = shared;
    mine.users++;
    clearTimeout(mine.timer);
    let left = false;
    return {
      edge: mine.edge,
      leave: () => {
        if (left) return;
        left = true;
        if (--mine.users > 0 || this.#closed) return;
        mine.timer = setTimeout(() => {
          if (this.#edges.get(key) === mine) this.#edges.delete(key);
          void mine.edge.stop();
        }, linger);
      },
    };
  }

  /** A reader for a client that is behind the edge, or needs none. */
  reader(channels: string[] | null): EphemeralReader {
    return new EphemeralReader(channels, page, this.install, this.#replica);
  }

  /** Runs work on a connection, when it is its turn. */
  async turn<T>(signal: AbortSignal, work: (session: Queryable) => Promise<T>): Promise<T> {
    // The lane of the link keeps a connection open between turns.
    await (this.#link ??= this.#open());
    if (this.#reading >= turns) {
      await new Promise<void>((resolve) => this.#line.push(resolve));
    } else this.#reading++;
    try {
      signal.throwIfAborted();
      const lane = this.#connections.lane();
      try {
        return await work(lane.reading);
      } finally {
        await lane.close();
      }
    } finally {
      const next = this.#line.shift();
      if (next === undefined) this.#reading--;
      else next();
    }
  }

  async #open(): Promise<Link> {
    try {
      return await Link.open(this.#db, this.#connections);
    } catch (error) {
      this.#link = undefined;
      throw error;
    }
  }

  /** Ends every edge and closes the connection. */
  async close(): Promise<void> {
    this.#closed = true;
    const all = [...this.#edges.values()];
    this.#edges.clear();
    for (const { timer } of all) clearTimeout(timer);
    await Promise.all(all.map(({ edge }) => edge.stop()));
    await (await this.#link?.catch(() => undefined))?.close();
  }
}

function keyOf(channels: string[] | null): string {
  return JSON.stringify(channels);
}
