/**
 * The systems that a worker process can run: Hark's consumer, a peer's worker, or the floor. Each
 * calls `handled` for each notification, with the published payload.
 *
 * @module
 */

import pgListen from "npm:pg-listen@1.7.0";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, Consumer } from "@hark/postgres";
import * as graphile from "../peers/graphile.ts";
import * as pgboss from "../peers/pgboss.ts";
import { manySystems } from "./many.ts";
import type { Serving, System } from "./system.ts";

async function listener(
  url: string,
  channel: string,
  wake: (client: pg.Client, payload: string) => void,
): Promise<Serving> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", (error) => console.error(error.message));
  await client.connect();
  client.on("notification", ({ payload }) => wake(client, payload ?? ""));
  await client.query(`listen ${client.escapeIdentifier(channel)}`);
  return { stop: () => client.end() };
}

/** Pages through one channel of a log, with the columns a consumer reads. */
function pages(size: number, table = "hark.log"): System {
  return async ({ url, name, begins, handled }) => {
    const client = new pg.Client({ connectionString: url });
    client.on("error", (error) => console.error(error.message));
    await client.connect();
    begins();
    const read = async () => {
      for (let last: unknown = 0;;) {
        const { rows } = await client.query(
          `select id, channel, key, payload::text as payload, headers::text as headers,
            date_part('epoch', created_at) * 1000 as created_at
          from ${table} where id > $1 and channel = $2 order by id limit ${size}`,
          [last, name],
        );
        if (rows.length === 0) return;
        for (const row of rows) handled(row.payload);
        last = rows.at(-1).id;
      }
    };
    return { done: read(), stop: () => client.end() };
  };
}

/**
 * The least that can read what is published. Every 3 ms it looks for ids above the last one, and so
 * loses notifications that commit late. Begins at the end of the table.
 */
const poll: System = async ({ url, handled }) => {
  const client = new pg.Client({ connectionString: url });
  client.on("error", (error) => console.error(error.message));
  await client.connect();
  const { rows: [{ last: end }] } = await client.query("select max(id) as last from plain.log");
  let stopped = false;
  const done = (async () => {
    for (let last: unknown = end ?? 0; !stopped;) {
      const { rows } = await client.query({
        name: "poll",
        text: `select id, channel, key, payload::text as payload, headers::text as headers,
          date_part('epoch', created_at) * 1000 as created_at
        from plain.log where id > $1 order by id limit 1000`,
        values: [last],
      });
      for (const row of rows) handled(JSON.parse(row.payload));
      last = rows.at(-1)?.id ?? last;
      if (rows.length < 1000) await new Promise((resolve) => setTimeout(resolve, 3));
    }
  })();
  return {
    done,
    stop: async () => {
      stopped = true;
      await done;
      await client.end();
    },
  };
};

const hark: System = async ({ url, name, options, begins, handled }) => {
  const db = await connect(url);
  await db.query("select 1");
  begins();
  const consumer = new Consumer(db, {
    id: `bench-${name}`,
    channels: name,
    ...options,
    handle: ({ payload }) => handled(payload),
  });
  const done = consumer.run();
  return {
    done,
    stop: async () => {
      await consumer.stop();
      await db[Symbol.asyncDispose]();
    },
  };
};

/**
 * Drains a consumer. A payload is parsed when it is first accessed, so a handler that does not
 * access it saves that time.
 */
const harkDrain = (looks: boolean): System => async ({ url, name, options, begins, handled }) => {
  const db = await connect(url);
  await db.query("select 1");
  begins();
  const consumer = new Consumer(db, {
    id: `bench-${name}-${crypto.randomUUID()}`,
    channels: name,
    ...options,
    handle: looks ? ({ payload }) => handled(payload) : () => handled(null),
  });
  return { done: consumer.drain(), stop: () => db[Symbol.asyncDispose]() };
};

function boss(listen: boolean, drains = false): System {
  return async ({ url, name, begins, handled }) => {
    const boss = await pgboss.start(url, { listen });
    await pgboss.queue(boss, name, listen);
    begins();
    const stop = () => boss.stop({ graceful: true, timeout: 10_000 });
    if (drains) return { done: pgboss.drain(boss, name, handled), stop };
    await pgboss.serve(boss, name, handled);
    return { stop };
  };
}

/** The systems by their names. */
export const systems: Readonly<Record<string, System>> = {
  ...manySystems,
  hark,
  "hark-drain": harkDrain(true),
  "hark-drain-blind": harkDrain(false),
  poll,
  "pages-500": pages(500),
  "pages-2000": pages(2000),
  "pages-plain": pages(500, "plain.log"),
  graphile: ({ url, name, handled }) => graphile.serve(url, name, handled),
  "graphile-unbatched": ({ url, name, handled }) => graphile.serve(url, name, handled, false),
  pgboss: boss(false),
  "pgboss-listen": boss(true),
  "pgboss-fetch": boss(false, true),
  /** LISTEN only: the payload of the notification is what was published. */
  listen: ({ url, name, handled }) =>
    listener(url, name, (_, payload) => handled(payload === "" ? null : JSON.parse(payload))),
  /** LISTEN, then select the row whose id was sent. */
  "listen-select": ({ url, name, handled }) =>
    listener(url, name, async (client, id) => {
      const { rows } = await client.query("select payload from plain.log where id = $1", [id]);
      handled(rows[0].payload);
    }),
  pglisten: async ({ url, name, handled }) => {
    const subscriber = pgListen.default({ connectionString: url });
    subscriber.events.on("error", (error: Error) => console.error(error.message));
    subscriber.notifications.on(name, handled);
    await subscriber.connect();
    await subscriber.listenTo(name);
    return { stop: () => subscriber.close() };
  },
};
