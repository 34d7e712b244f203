/**
 * Fan-out: many consumers of one channel in one process, each of which handles every notification.
 * Prints the time from the first publish until all have handled everything, and the cost to the
 * server: transactions, rows written, and bytes of write-ahead log. Compared with plain readers
 * that store nothing, and with the peers, which need a job for each consumer.
 *
 *     deno task bench fanout [--count 10000] [--size 100] [--consumers 1,10,100] [--bytes 200]
 *       [--no-peers] [--repeats 3] [--json] [--svg FILE]
 *
 * A server of DATABASE_URL needs `max_connections` above the number of consumers. Works in a
 * database of its own, which it drops.
 *
 * @module
 */

import { connect, notifyMany } from "@hark/postgres";
import { alternate, flags, median, round, say } from "./flags.ts";
import { insertMany, payloadOf, plainTable } from "./floor.ts";
import { ownDatabase, pause } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { print } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({
  count: "10000",
  size: "100",
  consumers: "1,10,100",
  bytes: "200",
  "no-peers": false,
});
const [total, size] = [given.number("count"), given.number("size")];

await using own = await ownDatabase();
const { db, url } = own;
await plainTable(db);
await graphile.install(url);
await (await pgboss.start(url, { publishes: true })).stop({ graceful: false });

type Payload = ReturnType<typeof payloadOf>;
/** A publisher on connections of its own. PostgreSQL reports their statistics when they end. */
interface Publisher {
  publish(name: string, part: readonly Payload[], consumers: number): Promise<unknown>;
  stop(): Promise<unknown>;
}
interface Path {
  readonly worker: string;
  start(): Promise<Publisher>;
}

const each = (consumers: number) => Array.from({ length: consumers }, (_, n) => n);
const paths: Readonly<Record<string, Path>> = {
  "floor: plain SELECTs, nothing stored": {
    worker: "plain-many",
    start: async () => {
      const plain = await connect(url, { poolSize: 1 });
      return {
        publish: (name, part) =>
          plain.query(`with i as (${insertMany}) select pg_notify($2, '') from i limit 1`, [
            JSON.stringify(part.map((payload) => ({ channel: name, payload }))),
            name,
          ]),
        stop: () => plain[Symbol.asyncDispose](),
      };
    },
  },
  "Hark": {
    worker: "hark-many",
    start: async () => {
      const hark = await connect(url, { poolSize: 1 });
      return {
        publish: (name, part) =>
          notifyMany(hark, part.map((payload) => ({ channel: name, payload }))),
        stop: () => hark[Symbol.asyncDispose](),
      };
    },
  },
  ...given.has("no-peers") ? {} : {
    "graphile-worker, a job a consumer": {
      worker: "graphile-many",
      start: async () => {
        const utils = await graphile.publisher(url);
        return {
          publish: (name, part, consumers) =>
            utils.addJobs(
              part.flatMap((payload) =>
                each(consumers).map((n) => ({ identifier: `${name}-${n}`, payload }))
              ),
            ),
          stop: async () => await utils.release(),
        };
      },
    },
    "pg-boss, a job a consumer": {
      worker: "pgboss-many",
      start: async () => {
        const boss = await pgboss.start(url, { connections: 1, publishes: true });
        return {
          publish: async (name, part, consumers) => {
            const jobs = part.map((data) => ({ data }));
            for (const n of each(consumers)) await boss.insert(`${name}-${n}`, jobs);
          },
          stop: () => boss.stop({ graceful: false }),
        };
      },
    },
  },
};

/** The work that the server has done so far. */
async function work(): Promise<{ commits: number; writes: number; wal: number }> {
  await pause(500); // until the sessions that have ended have reported
  const { rows } = await db.query(
    `select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 as wal,
      (select xact_commit::float8 from pg_stat_database where datname = current_database()) as commits,
      (select sum(n_tup_ins + n_tup_upd + n_tup_del)::float8 from pg_stat_user_tables) as writes`,
  );
  return rows[0] as never;
}

let measured = 0;

async function measure(path: Path, consumers: number) {
  const name = `fan${++measured}`;
  const payloads = Array.from({ length: total }, (_, n) => payloadOf(given.number("bytes"), n));
  await using worker = await BenchWorker.start({ system: path.worker, url, name, consumers });
  const publisher = await path.start();
  await publisher.publish(name, payloads.slice(0, 1), consumers);
  await worker.handled(consumers);
  await pause(1000);
  const before = await work();
  const begun = performance.now();
  for (let from = 0; from < total; from += size) {
    await publisher.publish(name, payloads.slice(from, from + size), consumers);
  }
  await worker.handled(consumers + total * consumers);
  const seconds = (performance.now() - begun) / 1000;
  await publisher.stop();
  await worker.stop();
  const after = await work();
  // Remove the finished jobs, so that they do not slow down the next measurement.
  await using cleaner = await connect(url, { poolSize: 1, queryTimeout: 600_000 });
  await cleaner.query("delete from pgboss.job");
  await cleaner.query("vacuum pgboss.job");
  return {
    seconds,
    commits: after.commits - before.commits,
    writes: after.writes - before.writes,
    wal: after.wal - before.wal,
  };
}

const rows = [];
const curves = new Map<string, [number, number][]>();
const least = new Map<string, number>();
const counts = given.numbers("consumers");
for (const consumers of counts) {
  say(`${consumers} consumers`);
  const results = await alternate(
    given.repeats,
    Object.entries(paths).map(([name, path]) => [name, () => measure(path, consumers)] as const),
  );
  for (const [name, passes] of results) {
    const of = (what: keyof (typeof passes)[number]) => median(passes.map((pass) => pass[what]));
    if (consumers === counts[0]) least.set(name, of("wal"));
    const more = consumers - counts[0]!;
    rows.push({
      consumers,
      system: name,
      seconds: round(of("seconds")),
      "handled a second": round(total * consumers / of("seconds")),
      "transactions a notification": round(of("commits") / total),
      "rows written a notification": round(of("writes") / total),
      "WAL bytes a notification": round(of("wal") / total),
      "per further consumer": more === 0
        ? null
        : round((of("wal") - least.get(name)!) / total / more),
    });
    if (!curves.has(name)) curves.set(name, []);
    curves.get(name)!.push([consumers, of("seconds")]);
  }
}
await print({
  title: `Fan-out of ${total} notifications`,
  rows,
  panels: [{
    title: "until all have handled everything",
    x: { label: "consumers", log: true },
    y: { label: "seconds", log: true },
    lines: [...curves].map(([name, points]) => ({ name, points })),
  }],
  notes: [
    `Published by ${size}, payloads of ${
      given.text("bytes")
    } bytes, all consumers in one process; medians of ` +
    `${given.repeats} in turns. Everything was handled by every consumer, counted. The server's work includes ` +
    "publishing.",
  ],
}, given);
