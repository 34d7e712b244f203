/**
 * Everything that Hark does in a database, from installing to cleaning, once and quickly.
 *
 * @module
 */

import assert from "node:assert/strict";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import {
  cancelDelayed,
  cleanup,
  connect,
  type ConnectOptions,
  Consumer,
  type ConsumerOptions,
  deadLetters,
  migrate,
  notify,
  notifyMany,
  pause,
  type Queryable,
  removeConsumer,
  replay,
  resume,
  retry,
  seek,
  status,
  subscribe,
  watch,
  watches,
} from "../../../mod.ts";
import { deferred, within } from "../../harness/mod.ts";

/** The tables that a life needs. */
export const lifeTables = "create table watched (id bigint primary key, what text); " +
  "create table written (id bigint, what text)";

/** What a life may be given. */
export interface LifeOptions {
  /** A text that the database's encoding has. @default {"plain"} */
  readonly text?: string;
  /** Whether the user's own sessions may write. @default {true} */
  readonly writes?: boolean;
  /** Whether the user's own sessions may read the log. @default {true} */
  readonly reads?: boolean;
  /** Whether triggers fire in the user's own sessions. @default {true} */
  readonly triggers?: boolean;
  /** Whether the user's own session installs Hark; else a session of `connect` does. @default {true} */
  readonly installs?: boolean;
  /** How long the longest statement of a session of `connect` takes at least, in ms. @default {0} */
  readonly longest?: number;
  /** Whether it ends once all that was published was consumed. @default {false} */
  readonly isBrief?: boolean;
  /** For `connect`. */
  readonly options?: ConnectOptions;
}

/**
 * Installs Hark, publishes, consumes, fails, moves and cleans. Everything runs on connections of
 * `connect`, except what a pool of the user's publishes.
 */
export async function live(
  url: string,
  {
    text = "plain",
    writes = true,
    reads = writes,
    triggers = true,
    installs = true,
    longest = 0,
    isBrief = false,
    options = {},
  }: LifeOptions = {},
): Promise<void> {
  await using user = userPool(url);
  await using db = await connect(url, options);
  if (installs) assert.equal((await migrate(user)).changed, true);
  assert.equal((await migrate(db)).changed, !installs);
  await db.query("select pg_sleep($1)", [longest / 1000]);
  const common = { id: text, channels: [text, "public.watched"], retry: { initial: 1 } };
  const consumer = (more: ConsumerOptions = {}) =>
    new Consumer(db, { ...common, partitions: 2, handle() {}, ...more });

  await notify(db, text, { text }, { key: text, headers: { text } });
  const handled = deferred<unknown>("a notification");
  const running = consumer({ handle: (n) => handled.resolve([n.payload, n.key, n.headers]) });
  const run = running.run();
  assert.deepEqual(await Promise.race([handled.wait(), run]), [{ text }, text, { text }]);
  await within(running.stop(), { what: "the consumer to stop" });
  await run;

  assert(await cancelDelayed(db, await notify(db, text, { n: 2 }, { delay: 60_000 })));
  await notify(db, text, { n: 2 }, { deliverAt: new Date(0) });
  await notify(db, text, { n: 3 }, { dedupe: text });
  await notify(db, text, { n: 3 }, { dedupe: text });
  await notifyMany(db, [{ channel: text, payload: { n: 4 }, key: text }]);
  await db.transaction((tx) => notify(tx, text, { n: 5 }));
  assert.equal(await consumer().drain(), 4);
  if (isBrief) return;

  await watch(db, "public.watched");
  if (writes) await publishAsUser(user, text);
  assert.deepEqual((await watches(db))[0]!.drift, []);
  assert.equal(await consumer().drain(), writes ? triggers ? 5 : 3 : 0);
  if (reads) await consumeAsUser(user, text);

  let failed = false;
  const transactional = () =>
    new Consumer(db, {
      id: "tx",
      channels: "tx",
      transactional: true,
      maxAttempts: 2,
      retry: { initial: 1 },
      async handle(n, { tx }) {
        await tx!.query("insert into public.written values ($1, $2)", [n.id, text]);
        // Characters that hardly any encoding but UTF-8 has.
        if (n.payload === 3 && n.attempt < 3) throw new Error(`poison: ${text} \u2014 \u{1F418}`);
        if (failed) return;
        failed = true;
        throw new Error(text);
      },
    });
  await notifyMany(db, [1, 2, 3].map((n) => ({ channel: "tx", payload: n, key: text })));
  await transactional().drain();
  const written = async () => (await db.query("select from public.written")).rows.length;
  assert.equal(await written(), 2);
  const [dead] = await deadLetters(db, { consumer: "tx" });
  assert.match(dead!.error ?? "", /poison: /);
  assert.equal(await retry(db, "tx", { all: true }), 1);
  await transactional().drain();
  assert.equal((await deadLetters(db, { consumer: "tx" })).length, 1);

  await pause(db, text);
  await resume(db, text);
  await seek(db, text, "beginning");
  assert(await consumer().drain() >= 5);
  assert.equal(await replay(db, text, { from: 1 }) !== undefined, true);
  assert(await consumer().drain() >= 5);
  for await (const n of subscribe(db, text, { from: "beginning" })) {
    if (n.payload.n === 5) break;
  }
  const { consumers } = await status(db);
  assert.deepEqual(consumers.map(({ unread }) => unread), [0, 0]);
  assert((await cleanup(db, { olderThan: 0 })).removed >= 8);
  await removeConsumer(db, text);
}

/** A pool of the user's own, whose sessions have the defaults of the role and the database. */
function userPool(url: string): pg.Pool & Queryable & AsyncDisposable {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  pool.on("error", () => {}); // one that is idle may be ended by a timeout
  return Object.assign(pool, { [Symbol.asyncDispose]: () => pool.end() });
}

async function publishAsUser(user: Queryable, text: string): Promise<void> {
  await notify(user, text, { n: 7, text });
  await notifyMany(user, [{ channel: text, payload: { n: 8 } }]);
  await notify(user, text, { n: 9 }, { dedupe: "other" });
  await user.query("insert into public.watched values (1, $1)", [text]);
  await user.query("insert into public.watched values (2, $1)", [text]);
  assert.equal((await watches(user)).length, 1);
}

async function consumeAsUser(user: Queryable, text: string): Promise<void> {
  let failed = false;
  const options: ConsumerOptions = {
    id: "user",
    channels: text,
    partitions: 3,
    retry: { initial: 1 },
    handle() {
      if (failed) return;
      failed = true;
      throw new Error(text);
    },
  };
  assert(await new Consumer(user, options).drain() >= 8);
  await seek(user, "user", "beginning");
  assert(await new Consumer(user, options).drain() >= 8);
  assert(
    (await status(user)).consumers.some(({ consumer, unread }) =>
      consumer === "user" && unread === 0
    ),
  );
  await removeConsumer(user, "user");
}
