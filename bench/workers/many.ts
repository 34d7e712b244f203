/**
 * Many consumers of one channel in one process: Hark's, the peers', and the floor.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, Consumer, notify, subscribe } from "@hark/postgres";
import * as graphile from "../peers/graphile.ts";
import * as pgboss from "../peers/pgboss.ts";
import type { System } from "./system.ts";

const names = (name: string, count: number) =>
  Array.from({ length: count }, (_, n) => `${name}-${n}`);

/** Consumers that share one `Database`. */
const harkMany: System = async ({ url, name, consumers = 1, handled }) => {
  const db = await connect(url);
  const all = names(name, consumers).map((id) =>
    new Consumer(db, { id, channels: name, handle: () => handled(null) })
  );
  const done = Promise.all(all.map((consumer) => consumer.run()));
  return {
    done,
    stop: async () => {
      await Promise.all(all.map((consumer) => consumer.stop()));
      await db[Symbol.asyncDispose]();
    },
  };
};

/**
 * Consumers that have nothing to do, each of a channel of its own, and a reader of all channels, as
 * `hark tail` is, which handles what is published on `name`. Begins when all of them sleep.
 */
const harkElsewhere: System = async ({ url, name, consumers = 50, begins, handled }) => {
  const db = await connect(url);
  const channels = names(name, consumers);
  const all = channels.map((channel) =>
    new Consumer(db, { id: channel, channels: channel, handle: () => {} })
  );
  const running = all.map((consumer) => consumer.run());
  const seen = Promise.withResolvers<void>();
  const ended = new AbortController();
  const tail = (async () => {
    for await (const { channel, payload } of subscribe(db, null, { signal: ended.signal })) {
      if (channel === name) handled(payload);
      else seen.resolve();
    }
  })();
  let reads = false;
  seen.promise.then(() => reads = true);
  // Until all sleep, and a second long no session but the tail's has sent anything: each consumer polls once
  // more when it has fallen asleep.
  for (let rests = false; !reads || !rests;) {
    if (!reads) await notify(db, `${name} begins`, {});
    await new Promise((resolve) => setTimeout(resolve, 20));
    const { rows } = await db.query(
      `select (select count(*) from hark.sleepers where channel = any ($1)) >= $2
        and (
          select count(*) from pg_stat_activity a
          where a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
            and (a.state <> 'idle' or a.state_change > clock_timestamp() - interval '1 second')
        ) <= 1 as rests`,
      [channels, consumers],
    );
    rests = rows[0]!.rests === true;
  }
  begins();
  return {
    done: Promise.all([tail, ...running]),
    stop: async () => {
      ended.abort();
      await Promise.all(all.map((consumer) => consumer.stop()));
      await db[Symbol.asyncDispose]();
    },
  };
};

/** A queue for each consumer, as pg-boss's own `subscribe` has it. */
const bossMany: System = async ({ url, name, consumers = 1, handled }) => {
  const boss = await pgboss.start(url, { listen: true, connections: 10 });
  for (const queue of names(name, consumers)) {
    await pgboss.queue(boss, queue, true);
    await pgboss.serve(boss, queue, handled, 1);
  }
  return { stop: () => boss.stop({ graceful: true, timeout: 10_000 }) };
};

/** A task for each consumer: each job has one reader. */
const graphileMany: System = async ({ url, name, consumers = 1, handled }) =>
  await graphile.serve(url, names(name, consumers), handled);

/** Readers that select the rows above their last id when they are woken, and write nothing. */
const plainMany: System = async ({ url, name, consumers = 1, handled }) => {
  const pool = new pg.Pool({ connectionString: url, max: 4 });
  pool.on("error", (error) => console.error(error.message));
  const listener = new pg.Client({ connectionString: url });
  listener.on("error", (error) => console.error(error.message));
  await listener.connect();
  const { rows: [{ last: from }] } = await pool.query(
    "select coalesce(max(id), 0) as last from plain.log",
  );
  const readers = names(name, consumers).map(() => {
    let [last, busy, again] = [from, false, false];
    return async () => {
      again = true;
      if (busy) return;
      busy = true;
      while (again) {
        again = false;
        const { rows } = await pool.query(
          `select id, channel, key, payload::text as payload, headers::text as headers, created_at
          from plain.log where id > $1 and channel = $2 order by id limit 500`,
          [last, name],
        );
        for (const _ of rows) handled(null);
        last = rows.at(-1)?.id ?? last;
        if (rows.length > 0) again = true;
      }
      busy = false;
    };
  });
  listener.on("notification", () => {
    for (const read of readers) void read();
  });
  await listener.query(`listen ${listener.escapeIdentifier(name)}`);
  return {
    stop: async () => {
      await listener.end();
      await pool.end();
    },
  };
};

/** The systems by their names. */
export const manySystems: Readonly<Record<string, System>> = {
  "hark-many": harkMany,
  "hark-elsewhere": harkElsewhere,
  "pgboss-many": bossMany,
  "graphile-many": graphileMany,
  "plain-many": plainMany,
};
