/**
 * Replay after an absence: one consumer handles a backlog. Compared with plain SELECTs of the same
 * rows by the same driver, and with the peers with as many jobs waiting. Each runs in a process of
 * its own, whose peak memory is recorded. Handlers do nothing. The handled notifications are
 * counted; for Hark the time includes storing the position.
 *
 *     deno task bench replay [--rows 100000] [--bytes 200] [--repeats 3] [--no-peers] [--json]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { alternate, flags, median, round } from "./flags.ts";
import { fillBoss, fillGraphile, fillLog, settle } from "./fill.ts";
import { ownDatabase } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { print } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({ rows: "100000", bytes: "200", "no-peers": false });
const total = given.number("rows");
const name = "bench";

await using own = await ownDatabase();
const { db, url } = own;
const filling = { rows: total, bytes: given.number("bytes"), channel: `'${name}'` };

/** Reads everything in a process of its own. */
async function measure(system: string) {
  await using worker = await BenchWorker.start({ system, url, name, mark: total });
  const { ms, peak } = await worker.handled(total, 3600, true);
  await worker.stop();
  return { rate: total / (ms / 1000), MiB: peak / 2 ** 20 };
}

/**
 * Measures a peer with jobs that are created first. The jobs are removed afterwards, because
 * otherwise autovacuum and a checkpoint would run during the next measurement.
 */
async function measurePeer(system: string, fill: typeof fillBoss, table: string) {
  await fill(db, filling);
  try {
    return await measure(system);
  } finally {
    await db.query(`truncate ${table}`);
    await settle(db);
  }
}

await fillLog(db, { table: "hark.log", ...filling });
const peers = !given.has("no-peers");
if (peers) {
  const boss = await pgboss.start(url, { publishes: true });
  await pgboss.queue(boss, name);
  await boss.stop({ graceful: false });
  await graphile.install(url);
  const utils = await graphile.publisher(url);
  await utils.addJob(name, {});
  await utils.release();
  await db.query("delete from graphile_worker._private_jobs");
}

type Pass = Awaited<ReturnType<typeof measure>>;
const floor = "plain SELECT, npm:pg, pages of 500";
const variants: [string, () => Promise<Pass>][] = [
  [floor, () => measure("pages-500")],
  ["plain SELECT, npm:pg, pages of 2,000", () => measure("pages-2000")],
  ["Hark: a handler that reads the payload", () => measure("hark-drain")],
  ["Hark: a handler that does not", () => measure("hark-drain-blind")],
];
if (peers) {
  variants.push(
    [
      "graphile-worker",
      () => measurePeer("graphile", fillGraphile, "graphile_worker._private_jobs"),
    ],
    ["pg-boss: work", () => measurePeer("pgboss", fillBoss, "pgboss.job")],
    ["pg-boss: fetch and complete", () => measurePeer("pgboss-fetch", fillBoss, "pgboss.job")],
  );
}
const results = await alternate(given.repeats, variants);
const rateOf = (name: string) => median(results.get(name)!.map(({ rate }) => rate));
await print({
  title: "Replay of a backlog, rows a second",
  rows: [...results].map(([name, passes]) => ({
    system: name,
    "rows a second": round(rateOf(name)),
    "of plain SELECT": round(rateOf(name) / rateOf(floor), 2),
    "peak RSS, MiB": Math.round(Math.max(...passes.map(({ MiB }) => MiB))),
  })),
  notes: [
    `${total} payloads of ${
      given.text("bytes")
    } bytes, one process each, medians of ${given.repeats} in ` +
    "turns; memory: worst pass. All options of Hark are the defaults.",
  ],
}, given);
