/**
 * Publish: one notification for each transaction, from 1 to 64 clients, while a consumer runs.
 * Compared with a plain INSERT of the same row, an INSERT that notifies in each transaction, and
 * the peers with their workers running. Measured with the server's own flush, and with a flush that
 * takes a millisecond (`commit_delay`), as on a cloud volume. Everything that is published is
 * awaited and counted. A way to publish is also compared with its own counterpart, round by round:
 * beside a reader with the plain INSERT beside a plain one, and beside idle consumers of other
 * channels with the same without them. `--only` brings the counterparts along.
 *
 *     deno task bench publish [--clients 1,4,16,64] [--seconds 3] [--bytes 200] [--flush own,1ms]
 *       [--only "plain insert,hark"] [--repeats 3] [--cores] [--json] [--svg FILE]
 *
 * `--cores` tells where the time of the machine's cores goes, on a machine with nothing else to do:
 * the CPU time of a transaction in each kind of process. It needs a server on this machine, and a
 * superuser.
 *
 * The slow flush needs a superuser. Works in a database of its own, which it drops.
 *
 * @module
 */

import { cpuOf, sessionsOf, since } from "./cpu.ts";
import { alternate, flags, median, round, say } from "./flags.ts";
import { payloadOf, plainTable } from "./floor.ts";
import { ownDatabase } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { findDriver, flushes, type Load } from "./pgbench.ts";
import { print } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({
  clients: "1,4,16,64",
  seconds: "3",
  bytes: "200",
  flush: "own,1ms",
  only: "",
  cores: false,
});

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
  /** What it is compared with, besides the plain INSERT. */
  readonly beside?: string;
}

const insert =
  `insert into plain.log (channel, payload) values ('bench', '${payload}') returning id`;
const hark = (name: string) => `select hark.notify('${name}', '${payload}')`;
const [floor, polled, alone] = [
  "plain INSERT",
  "plain INSERT, a plain SELECT polls",
  "Hark: no reader",
];
const publishers: Readonly<Record<string, Publisher>> = {
  [floor]: { statement: () => insert },
  [polled]: { statement: () => insert, worker: "poll", loses: true },
  "plain INSERT + pg_notify, one listens": {
    statement: (name) => `with i as (${insert}) select id, pg_notify('${name}', '') from i`,
    worker: "listen",
  },
  [alone]: { statement: hark, beside: floor },
  "Hark: 50 consumers idle elsewhere, and a tail": {
    statement: hark,
    worker: "hark-elsewhere",
    beside: alone,
  },
  "Hark: a consumer runs": { statement: hark, worker: "hark", beside: polled },
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

/** The CPU time so far of each kind of process: see the note on `--cores`. In milliseconds. */
async function coresSoFar(worker?: BenchWorker) {
  const { rows: [{ pid }] } = await db.query("select pg_backend_pid() as pid");
  const server = (await cpuOf(db, [pid])).get(pid)!.parent;
  const times = await cpuOf(db, [server, Deno.pid, ...worker === undefined ? [] : [worker.pid]]);
  return {
    ended: [times.get(server)!.ended, times.get(Deno.pid)!.ended],
    sessions: await sessionsOf(db),
    worker: worker === undefined ? 0 : times.get(worker.pid)!.own,
  };
}

interface Measured {
  readonly perSecond: number;
  /** CPU time of a transaction in each kind of process, in microseconds. */
  readonly cores?: readonly number[];
}

/** Runs a load, and looks where the time of the cores goes, if that is asked for. */
async function run(statement: string, load: Load, worker?: BenchWorker) {
  if (!given.has("cores")) return await drive(statement, load);
  const before = await coresSoFar(worker);
  const driven = await drive(statement, load);
  const after = await coresSoFar(worker);
  const times = [
    ...after.ended.map((ms, kind) => ms - before.ended[kind]!),
    since(before.sessions, after.sessions),
    after.worker - before.worker,
  ];
  return { ...driven, cores: times.map((ms) => Math.round(ms * 1000 / driven.done)) };
}

async function measure(
  publisher: Publisher,
  clients: number,
  flush: string,
): Promise<Measured> {
  const name = publisher.queue ?? `m${++measured}`;
  const statement = await publisher.statement(name);
  const load = { url, clients, seconds: given.number("seconds"), options: flushes[flush]! };
  if (publisher.worker === undefined) return await run(statement, load);
  await using worker = await BenchWorker.start({ system: publisher.worker, url, name });
  // The first notifications show that the worker runs and how many there are to handle.
  const { done: first } = await drive(statement, { ...load, seconds: 1 });
  if (!publisher.loses) await worker.handled(first);
  const result = await run(statement, load, worker);
  if (!publisher.loses) await worker.handled(first + result.done);
  await worker.stop();
  return result;
}

const chosen = given.chosen(publishers);
for (const [, { beside }] of chosen) {
  if (beside !== undefined && !chosen.some(([name]) => name === beside)) {
    chosen.push([beside, publishers[beside]!]); // and its own counterpart, later in this loop
  }
}
const rows = [];
const panels = [];
for (const flush of given.text("flush").split(",")) {
  if (flushes[flush] === undefined) throw new Error(`--flush is "${flush}". Give own or 1ms.`);
  const curves = new Map<string, [number, number][]>(chosen.map(([name]) => [name, []]));
  const pairs = new Map<string, number[]>(chosen.map(([name]) => [name, []]));
  const cores = new Map<string, string[]>(chosen.map(([name]) => [name, []]));
  for (const clients of given.numbers("clients")) {
    say(`flush ${flush}, ${clients} clients`);
    const results = await alternate(
      given.repeats,
      chosen.map(([name, publisher]) => [name, () => measure(publisher, clients, flush)] as const),
    );
    const rate = ({ perSecond }: Measured) => perSecond;
    for (const [name, all] of results) {
      const rates = all.map(rate);
      if (all[0]?.cores !== undefined) {
        const kinds = all[0].cores.map((_, kind) => median(all.map((one) => one.cores![kind]!)));
        cores.get(name)!.push(kinds.map((kind) => Math.round(kind)).join(" + "));
      }
      curves.get(name)!.push([clients, median(rates)]);
      const other = results.get(publishers[name]?.beside ?? "")?.map(rate);
      if (other !== undefined) {
        pairs.get(name)!.push(round(median(rates.map((rate, at) => rate / other[at]!)), 2));
      }
    }
  }
  const plain = curves.get(floor);
  for (const [name, points] of curves) {
    rows.push({
      flush,
      system: name,
      ...Object.fromEntries(points.flatMap(([clients, rate], at) => [
        [`${clients} cl.`, round(rate)],
        [`ratio ${clients}`, plain === undefined ? null : round(rate / plain[at]![1], 2)],
      ])),
      "beside": publishers[name]?.beside ?? null,
      ...Object.fromEntries(
        points.flatMap(([clients], at) => [
          [`pair ${clients}`, pairs.get(name)![at] ?? null],
          ...given.has("cores") ? [[`us ${clients}`, cores.get(name)![at] ?? null]] : [],
        ]),
      ),
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
    `pair: the median of the ratios to the system named beside it, each in one round.`,
    ...given.has("cores")
      ? [
        `us: CPU time of a transaction, in microseconds: publishers' sessions and whatever else of ` +
        `the server ended; clients; the reader's sessions; the reader's process.`,
      ]
      : [],
    `"1ms": commit_delay=1000, commit_siblings=0. Readers ran under the same load for one second before.`,
  ],
}, given);
