/**
 * Latency: the time from the publishing call to the handler in another process. Measured when idle
 * (one at a time), at a steady rate, and while an unrelated transaction that has written stays
 * open. Compared with the peers, and with the floor: one transaction inserts a row and notifies
 * with its id, and a listener selects the row.
 *
 *     deno task bench latency [--count 500] [--pause 20] [--rate 1000] [--seconds 10]
 *       [--open-rate 100] [--only hark,pg-boss] [--repeats 3] [--json]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import pgListen from "npm:pg-listen@1.7.0";
import { connect, notify } from "@hark/postgres";
import { alternate, flags, median, round } from "./flags.ts";
import { plainTable } from "./floor.ts";
import { ownDatabase, pause, quantile } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { print } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({
  count: "500",
  pause: "20",
  rate: "1000",
  seconds: "10",
  "open-rate": "100",
  only: "",
});
const connections = 8;

await using own = await ownDatabase();
const { db, url } = own;
await plainTable(db);
await graphile.install(url);
await db.query("create table elsewhere (n integer)");

/** A way to publish a payload under a name, and the worker that reads it. */
interface Path {
  readonly worker: string;
  publish(name: string, payload: object): Promise<unknown>;
}

// On a machine that cannot keep up, calls wait for a connection. That must show in the figures, not
// as an error.
await using hark = await connect(url, { poolSize: connections, connectTimeout: 600_000 });
const pool = new pg.Pool({ connectionString: url, max: connections });
pool.on("error", (error) => console.error(error.message));
const utils = await graphile.publisher(url, connections);
const boss = await pgboss.start(url, { connections, publishes: true });
const subscriber = pgListen.default({ connectionString: url });
subscriber.events.on("error", (error: Error) => console.error(error.message));
await subscriber.connect();

const addJob: Path["publish"] = (name, payload) => utils.addJob(name, payload);
const paths: Readonly<Record<string, Path>> = {
  "floor: INSERT and NOTIFY, LISTEN and SELECT": {
    worker: "listen-select",
    publish: (name, payload) =>
      pool.query(
        `with i as (insert into plain.log (channel, payload) values ($1, $2) returning id)
        select pg_notify($1, id::text) from i`,
        [name, JSON.stringify(payload)],
      ),
  },
  "Hark": { worker: "hark", publish: (name, payload) => notify(hark, name, payload) },
  // Both of its documented setups: which one is faster depends on the load.
  "graphile-worker, a query a job": { worker: "graphile-unbatched", publish: addJob },
  "graphile-worker, local queue of 500": { worker: "graphile", publish: addJob },
  "pg-boss, LISTEN": {
    worker: "pgboss-listen",
    publish: (name, payload) => boss.send(name, payload),
  },
  "pg-listen (nothing stored)": {
    worker: "pglisten",
    publish: (name, payload) => subscriber.notify(name, payload),
  },
};

/** Milliseconds since 1970 with fractions, on the worker's clock. */
const now = () => performance.timeOrigin + performance.now();
let measured = 0;

/** Publishes at a rate for some seconds, whether or not earlier calls have returned. */
async function steadily(path: Path, name: string, rate: number, seconds: number): Promise<number> {
  const begun = performance.now();
  const total = Math.round(rate * seconds);
  const running: Promise<unknown>[] = [];
  for (let count = 0; count < total;) {
    const due = Math.min(total, Math.floor((performance.now() - begun) / 1000 * rate) + 1);
    for (; count < due; count++) running.push(path.publish(name, { at: now(), n: count }));
    await pause(1);
  }
  await Promise.all(running);
  return total;
}

/** Measures the latencies of one path in each situation. */
async function measure(path: Path): Promise<Readonly<Record<string, number>>> {
  const name = `latency${++measured}`;
  if (path.worker === "pgboss-listen") await pgboss.queue(boss, name, true);
  await using worker = await BenchWorker.start({ system: path.worker, url, name });
  // Nothing is measured before the worker handles notifications.
  for (let n = 1; n <= 20; n++) {
    await path.publish(name, { n });
    await worker.handled(n, 60);
  }
  await pause(500);
  await worker.ask({ reset: true });
  const count = given.number("count");
  for (let n = 1; n <= count; n++) {
    await path.publish(name, { at: now(), n });
    await worker.ask({ count: n }, 60);
    // Varies the point within the worker's own intervals.
    await pause(given.number("pause") * (0.5 + Math.random()));
  }
  const { latencies: idle } = await worker.handled(count);

  await worker.ask({ reset: true });
  let total = await steadily(path, name, given.number("rate"), given.number("seconds"));
  const { latencies: busy } = await worker.handled(total, 600);

  await worker.ask({ reset: true });
  const client = await pool.connect();
  try {
    await client.query("begin");
    await client.query("insert into elsewhere values (1)");
    total = await steadily(path, name, given.number("open-rate"), given.number("seconds"));
    await client.query("rollback");
  } finally {
    client.release();
  }
  const { latencies: open } = await worker.handled(total, 600);
  await worker.stop();
  return Object.fromEntries(
    Object.entries({ idle, busy, open }).flatMap(([situation, latencies]) => [
      [`${situation} p50`, round(quantile(latencies, 0.5))],
      [`${situation} p99`, round(quantile(latencies, 0.99))],
    ]),
  );
}

const chosen = given.chosen(paths);
const results = await alternate(
  given.repeats,
  chosen.map(([name, path]) => [name, () => measure(path)] as const),
);
await utils.release();
await boss.stop({ graceful: false });
await subscriber.close();
await pool.end();
await print({
  title: "From the publishing call to the handler in another process, ms",
  rows: [...results].map(([name, passes]) => ({
    system: name,
    ...Object.fromEntries(
      Object.keys(passes[0] ?? {}).map((column) => [
        column,
        round(median(passes.map((pass) => Number(pass[column])))),
      ]),
    ),
  })),
  notes: [
    `idle: ${given.text("count")}, one at a time, about ${
      given.text("pause")
    } ms after the one before; busy: ${given.text("rate")}/s for ${given.text("seconds")} s; ` +
    `open: ${
      given.text("open-rate")
    }/s while a transaction that has written stays open for as long. ` +
    `Medians of ${given.repeats} in turns.`,
  ],
}, given);
