/**
 * Many consumers of one channel in one process: Hark's, the peers', and the floor.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, Consumer } from "@hark/postgres";
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
  "pgboss-many": bossMany,
  "graphile-many": graphileMany,
  "plain-many": plainMany,
};
