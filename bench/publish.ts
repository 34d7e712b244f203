/**
 * Publish: one notification for each transaction, from 1 to 64 clients, while a consumer runs.
 * Compared with a plain INSERT of the same row, an INSERT that notifies in each transaction, and
 * the peers with their workers running. Measured with the server's own flush, and with a flush that
 * takes a millisecond (`commit_delay`), as on a cloud volume. Everything that is published is
 * awaited and counted.
 *
 *     deno task bench publish [--clients 1,4,16,64] [--seconds 3] [--bytes 200] [--flush own,1ms]
 *       [--only "plain insert,hark"] [--repeats 3] [--json] [--svg FILE]
 *
 * The slow flush needs a superuser. Works in a database of its own, which it drops.
 *
 * @module
 */

import { alternate, flags, median, round, say } from "./flags.ts";
import { payloadOf, plainTable } from "./floor.ts";
import { ownDatabase } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { findDriver } from "./pgbench.ts";
import { print } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({
  clients: "1,4,16,64",
  seconds: "3",
  bytes: "200",
  flush: "own,1ms",
  only: "",
});
const flushes: Readonly<Record<string, string>> = {
  own: "",
  "1ms": "-c commit_delay=1000 -c commit_siblings=0",
};

await using own = await ownDatabase();
const { db, url } = own;
await plainTable(db);
await graphile.install(url);
const boss = await pgboss.start(url, { connections: 1, publishes: true });
await pgboss.queue(boss, "polled");
await pgboss.queue(boss, "woken", true);
const payload = JSON.stringify(payloadOf(given.number("bytes")));

/** A way to publish: its statement, and the worker that reads, if any. */
interface Publisher {
  statement(name: string): string | Promise<string>;
  readonly worker?: string;
  /** Whether its worker loses notifications, so that they cannot all be awaited. */
  readonly loses?: boolean;
  /** The queue that its worker reads, if it is not named after the measurement. */
  readonly queue?: string;
}

const insert =
  `insert into plain.log (channel, payload) values ('bench', '${payload}') returning id`;
const hark = (name: string) => `select hark.notify('${name}', '${payload}')`;
const publishers: Readonly<Record<string, Publisher>> = {
  "plain INSERT": { statement: () => insert },
  "plain INSERT, a plain SELECT polls": { statement: () => insert, worker: "poll", loses: true },
  "plain INSERT + pg_notify, one listens": {
    statement: (name) => `with i as (${insert}) select id, pg_notify('${name}', '') from i`,
    worker: "listen",
  },
  "Hark: no reader": { statement: hark },
  "Hark: a consumer runs": { statement: hark, worker: "hark" },
  "graphile-worker: its worker runs": {
    statement: (name) => `select graphile_worker.add_job('${name}', '${payload}')`,
    worker: "graphile",
  },
  "pg-boss: its worker polls": {
    statement: (name) => pgboss.sendStatement(boss, name, JSON.parse(payload)),
    worker: "pgboss",
    queue: "polled",
  },
  "pg-boss: its worker listens": {
    statement: (name) => pgboss.sendStatement(boss, name, JSON.parse(payload)),
    worker: "pgboss-listen",
    queue: "woken",
  },
};

const { name: driver, drive } = await findDriver();
let measured = 0;

async function measure(publisher: Publisher, clients: number, flush: string): Promise<number> {
  const name = publisher.queue ?? `m${++measured}`;
  const statement = await publisher.statement(name);
  const load = { url, clients, seconds: given.number("seconds"), options: flushes[flush]! };
  if (publisher.worker === undefined) return (await drive(statement, load)).perSecond;
  await using worker = await BenchWorker.start({ system: publisher.worker, url, name });
  // The first notifications show that the worker runs and how many there are to handle.
  const { done: first } = await drive(statement, { ...load, seconds: 1 });
  if (!publisher.loses) await worker.handled(first);
  const { done, perSecond } = await drive(statement, load);
  if (!publisher.loses) await worker.handled(first + done);
  await worker.stop();
  return perSecond;
}

const chosen = given.chosen(publishers);
const rows = [];
const panels = [];
for (const flush of given.text("flush").split(",")) {
  if (flushes[flush] === undefined) throw new Error(`--flush is "${flush}". Give own or 1ms.`);
  const curves = new Map<string, [number, number][]>(chosen.map(([name]) => [name, []]));
  for (const clients of given.numbers("clients")) {
    say(`flush ${flush}, ${clients} clients`);
    const results = await alternate(
      given.repeats,
      chosen.map(([name, publisher]) => [name, () => measure(publisher, clients, flush)] as const),
    );
    for (const [name, rates] of results) curves.get(name)!.push([clients, median(rates)]);
  }
  const floor = curves.get("plain INSERT");
  for (const [name, points] of curves) {
    rows.push({
      flush,
      system: name,
      ...Object.fromEntries(points.flatMap(([clients, rate], at) => [
        [`${clients} cl.`, round(rate)],
        [`ratio ${clients}`, floor === undefined ? null : round(rate / floor[at]![1], 2)],
      ])),
    });
  }
  panels.push({
    title: flush === "own" ? "the server's own flush" : "a flush of 1 ms",
    x: { label: "clients", log: true },
    y: { label: "transactions a second", log: true },
    lines: [...curves].map(([name, points]) => ({ name, points })),
  });
}
await boss.stop({ graceful: false });
await print({
  title:
    "Publishing, one notification a transaction: transactions a second, and the ratio to plain INSERT",
  rows,
  panels,
  notes: [
    `Driven by ${driver}; ${
      given.text("seconds")
    } s each, medians of ${given.repeats} in turns; payloads of ` +
    `${
      given.text("bytes")
    } bytes. Everything published was handled, or counted as heard. The exception is the ` +
    `plain SELECT: it continues from the last id, so it can skip rows that commit late.`,
    `"1ms": commit_delay=1000, commit_siblings=0. Readers ran under the same load for one second before.`,
  ],
}, given);
