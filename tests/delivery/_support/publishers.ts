/**
 * Publishers that count: each notification carries its key's version, taken from a row that its
 * transaction has locked. Some transactions are rolled back, some stay open, some undo a part.
 *
 * @module
 */

import type { Published } from "./ledger.ts";
import { type Client, connect, disconnect, type Row } from "../../harness/mod.ts";

/** What publishers need in the database. */
export const publishersSql = `
create table counters (key text primary key, version integer not null default 0);
create table published (token uuid primary key, key text, version integer not null);
create function publish(channel text, key text, token uuid, filler integer default 0) returns bigint
language plpgsql as $$
declare
  v integer := 0;
begin
  if key is not null then
    insert into counters as c (key, version) values ($2, 1)
    on conflict on constraint counters_pkey do update set version = c.version + 1
    returning version into v;
  end if;
  insert into published values ($3, $2, v);
  return hark.notify($1, jsonb_build_object('version', v, 'token', $3, 'even', v % 2 = 0,
    'filler', repeat('x', $4)), $2);
end
$$;`;

/** Numbers from 0 to 1 that a seed decides. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    // mulberry32
    state = (state + 0x6D2B79F5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** How they publish. */
export interface PublishersOptions {
  /** @default {3} */
  readonly publishers?: number;
  /** How many keys there are. @default {24} */
  readonly keys?: number;
  /** Up to this many milliseconds between two transactions of one publisher. @default {25} */
  readonly pause?: number;
  /** The share of transactions that stay open for a second before they commit. @default {0.02} */
  readonly slow?: number;
  /** The share that is rolled back. @default {0.1} */
  readonly rolledBack?: number;
  readonly seed?: number;
  /** The channel of a key; `c` unless given. */
  readonly channelOf?: (key: string | null) => string;
}

/** Publishers at work until they are stopped, over whatever happens to the server. */
export class Publishers {
  readonly #url: string;
  readonly #options: PublishersOptions;
  readonly #done: Promise<unknown>;
  #stop = false;
  /** How many transactions have committed, as far as is known. */
  committed = 0;

  constructor(url: string, options: PublishersOptions = {}) {
    this.#url = url;
    this.#options = options;
    this.#done = Promise.all(
      Array.from({ length: options.publishers ?? 3 }, (_, n) => this.#run(n)),
    );
    this.#done.catch(() => {});
  }

  /** Has them finish what is in hand. */
  async stop(): Promise<void> {
    this.#stop = true;
    await this.#done;
  }

  /** Stops them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #run(publisher: number): Promise<void> {
    const dice = random((this.#options.seed ?? 1) * 1000 + publisher);
    let client: Client | undefined;
    while (!this.#stop) {
      try {
        client ??= await connect(this.#url);
        await this.#transaction(client, dice);
        await pause(dice() * (this.#options.pause ?? 25));
      } catch (error) {
        // A server that is down or going down; anything else is an error of the test.
        if (!isOutage(error)) throw error;
        if (client !== undefined) await disconnect(client);
        client = undefined;
        await pause(50);
      }
    }
    if (client !== undefined) await disconnect(client);
  }

  async #transaction(client: Client, dice: () => number): Promise<void> {
    const { keys = 24, slow = 0.02, rolledBack = 0.1, channelOf = () => "c" } = this.#options;
    const count = 1 + Math.floor(dice() * 4);
    // Rows are locked in one order by all, so that there are no deadlocks.
    const chosen = Array.from({ length: count }, () => Math.floor(dice() * keys))
      .toSorted((a, b) => a - b).map((n) => n === 0 ? null : `k${n}`);
    await client.query("begin");
    for (const [n, key] of chosen.entries()) {
      const undone = dice() < 0.05;
      if (undone) await client.query("savepoint s");
      await publish(client, channelOf(key), key);
      if (undone) await client.query("rollback to s");
      if (n === 0 && dice() < slow) await pause(1000);
    }
    if (dice() < rolledBack) return void await client.query("rollback");
    await client.query("commit");
    this.committed++;
  }
}

/** Publishes one, in the client's transaction. */
export async function publish(
  client: Pick<Client, "query">,
  channel: string,
  key: string | null,
  filler = 0,
): Promise<void> {
  const values = [channel, key, crypto.randomUUID(), filler];
  await client.query("select publish($1, $2, $3, $4)", values);
}

/** What has been committed, in the order of ids. Fails where the log and the publishers' own table differ. */
export async function committed(
  on: { sql(text: string): Promise<Row[]> },
): Promise<Published[]> {
  const [{ strays }] = await on.sql(
    `select count(*)::int as strays
      from published p full join hark.log l on l.payload ->> 'token' = p.token::text
      where p.token is null or l.id is null`,
  );
  if (strays !== 0) throw new Error(`${strays} rows are in the log or beside it only`);
  const rows = await on.sql(
    `select id, channel, key, (payload ->> 'version')::int as version, payload ->> 'token' as token
      from hark.log order by id`,
  );
  return rows.map((row) => ({ ...row, id: Number(row.id) }));
}

function isOutage(error: unknown): boolean {
  const { code, message } = error as { code?: string; message?: string };
  return /^(08|57P|ECONN|EPIPE|55000)/.test(code ?? "") ||
    /terminat|timeout|closed|ended|not queryable|reset/i.test(message ?? "");
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
