/**
 * Consumers and subscriptions that run while a test breaks something.
 *
 * @module
 */

import {
  Consumer,
  type ConsumerOptions,
  type HandlerContext,
  type Notification,
  type Queryable,
  subscribe,
  type SubscribeOptions,
} from "../../../mod.ts";
import { deferred, Inbox, type Row, until, type Wait, within } from "../../harness/mod.ts";

/** Longer than any test: with it, what arrives has been woken by LISTEN. */
export const NEVER_POLL = 600_000;

/** A consumer that runs. Disposing of it stops it, and fails where `run` failed. */
export class Running implements AsyncDisposable {
  /** What was handed to the handler, in order, repeats included. */
  readonly inbox = new Inbox<Notification>();
  readonly consumer: Consumer;
  /** What `run` gives. */
  readonly done: Promise<void>;
  #over = false;

  constructor(db: Queryable, options: ConsumerOptions) {
    this.consumer = new Consumer(db, {
      id: "c",
      channels: "c",
      ...options,
      handle: (notification, context: HandlerContext) => {
        this.inbox.push(notification);
        return options.handle?.(notification, context);
      },
    });
    this.done = this.consumer.run().finally(() => this.#over = true);
    this.done.catch(() => {}); // the caller that stops it sees it
  }

  /** Whether `run` has returned. */
  get over(): boolean {
    return this.#over;
  }

  /** The payloads handled, in order, repeats included. */
  get payloads(): unknown[] {
    return this.inbox.items.map((n) => n.payload);
  }

  /** Waits until this many were handed to the handler. */
  async atLeast(count: number, wait?: Wait): Promise<Notification[]> {
    return await within(
      Promise.race([
        this.inbox.atLeast(count, wait),
        this.done.then(() => {
          throw new Error("run() has returned");
        }),
      ]),
      { deadline: (wait?.deadline ?? 30_000) + 1000 },
    );
  }

  /** Stops it; throws what `run` threw. */
  async stop(): Promise<void> {
    await within(this.consumer.stop(), { deadline: 40_000, what: "the consumer to stop" });
    await this.done;
  }

  /** Stops it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** A subscription that is read. Disposing of it ends it, and fails where the iteration failed. */
export class Reading implements AsyncDisposable {
  readonly inbox = new Inbox<Notification>();
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  constructor(
    db: Queryable,
    channels: string | readonly string[] | null,
    options: SubscribeOptions = {},
  ) {
    this.#done = (async () => {
      const signal = this.#stop.signal;
      for await (const n of subscribe(db, channels, { ...options, signal })) this.inbox.push(n);
    })();
    this.#done.catch(() => {});
  }

  /** The payloads read, in order. */
  get payloads(): unknown[] {
    return this.inbox.items.map((n) => n.payload);
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await within(this.#done, { what: "the subscription to end" });
  }
}

/** A handler that waits at one payload until told to go on. */
export class Gate {
  readonly #reached = deferred<HandlerContext>("the handler to be reached");
  readonly #open = deferred("the gate to be opened");
  readonly #at: unknown;
  readonly #often: number;
  #times = 0;

  /** Waits the first `often` times that it sees `at`. */
  constructor(at: unknown, often = 1) {
    this.#at = at;
    this.#often = often;
  }

  /** Give it as the handler. */
  readonly handle = async (n: Notification, context: HandlerContext): Promise<void> => {
    if (n.payload !== this.#at || this.#times++ >= this.#often) return;
    this.#reached.resolve(context);
    await this.#open.wait({ deadline: 120_000 });
  };

  /** Waits until a handler waits; gives what it was called with. */
  async reached(): Promise<HandlerContext> {
    return await this.#reached.wait();
  }

  /** Lets it go on. */
  open(): void {
    this.#open.resolve();
  }
}

/** Whole numbers from `from` to `to`. */
export function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

/** What runs SQL: a test's context, a server of its own. */
export interface Sql {
  sql(text: string, values?: unknown[]): Promise<Row[]>;
}

/** Publishes the numbers from `from` to `to` as payloads, a transaction each; returns the ids. */
export async function publish(on: Sql, from: number, to: number, channel = "c"): Promise<number[]> {
  const ids: number[] = [];
  for (const n of numbers(from, to)) {
    const [row] = await on.sql("select hark.notify($1, $2) as id", [channel, String(n)]);
    ids.push(Number(row.id));
  }
  return ids;
}

/** A backend that holds the advisory lock of a LISTEN session. Only such locks are exclusive and of one number. */
const listens = `exists (
  select from pg_locks l where l.pid = a.pid and l.locktype = 'advisory' and l.objsubid = 1
    and l.mode = 'ExclusiveLock' and l.granted
)`;

/** The backends that LISTEN for Hark in this database. */
export async function listenBackends(on: Sql): Promise<number[]> {
  const rows = await on.sql(
    `select a.pid from pg_stat_activity a where a.datname = current_database() and ${listens}`,
  );
  return rows.map((row) => row.pid);
}

/** The backends that read the log for consumers and subscriptions. */
export async function readerBackends(on: Sql): Promise<number[]> {
  const rows = await on.sql(
    `select a.pid from pg_stat_activity a
      where a.datname = current_database() and a.backend_type = 'client backend'
        and a.pid <> pg_backend_pid() and a.application_name <> 'hark harness'
        and a.query ~ 'hark\\.' and not ${listens}`,
  );
  return rows.map((row) => row.pid);
}

/** Kills what `find` finds, which must be at least one, and gives the numbers. */
export async function killBackends(
  on: Sql,
  find: (on: Sql) => Promise<number[]>,
): Promise<number[]> {
  const pids = await until<number[] | undefined>(async () => {
    const found = await find(on);
    return found.length > 0 ? found : undefined;
  }, { what: "a backend to kill" });
  await on.sql("select pg_terminate_backend(pid, 5000) from unnest($1::int[]) pid", [
    pids,
  ]);
  return pids!;
}

/** Waits until others than `before` LISTEN. */
export async function listeningAgain(on: Sql, before: number[], wait: Wait = {}): Promise<void> {
  await until(async () => {
    const now = await listenBackends(on);
    return now.length > 0 && now.every((pid) => !before.includes(pid));
  }, { what: "a new LISTEN session", ...wait });
}
