/**
 * A rare channel: one in 100,000 rows of the log is for a consumer that is moved back to the
 * beginning. Prints the time until the first is delivered, and until all are. Compared with plain
 * paged SELECTs, without and with an index on the channel, and with the peers with as many jobs
 * waiting.
 *
 *     deno task bench rare [--rows 1000000] [--every 100000] [--bytes 100] [--no-peers]
 *       [--repeats 3] [--json]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { seek } from "@hark/postgres";
import { alternate, flags, median, round } from "./flags.ts";
import { fillBoss, fillGraphile, fillLog } from "./fill.ts";
import { plainTable } from "./floor.ts";
import { ownDatabase } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { print } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({ rows: "1000000", every: "100000", bytes: "100", "no-peers": false });
const [rows, every, bytes] = [given.number("rows"), given.number("every"), given.number("bytes")];
const rare = Math.floor(rows / every);
if (rare < 1) throw new Error("--rows must be at least --every");
const channel = `case when n % ${every} = 0 then 'rare' else 'old' end`;

await using own = await ownDatabase();
const { db, url } = own;
await fillLog(db, { table: "hark.log", rows, bytes, channel });
await plainTable(db);
await db.query("insert into plain.log overriding system value select * from hark.log");
await db.query("create index on plain.log (channel, id)");
await db.query("vacuum analyze plain.log");

interface Pass {
  readonly first: number;
  readonly all: number;
}

/** Measures a worker that begins to read when it starts. */
async function fromStart(system: string, name: string, id?: string): Promise<Pass> {
  const options = id === undefined ? {} : { id };
  await using worker = await BenchWorker.start({ system, url, name, options, mark: rare });
  const { first, ms: all } = await worker.handled(rare);
  return { first, all };
}

/** Measures a worker that runs, has read everything, and is moved back. */
async function moved(pass: number): Promise<Pass> {
  const name = "rare";
  const options = { id: `rare-${pass}`, from: "now" } as const;
  await using worker = await BenchWorker.start({ system: "hark", url, name, options, mark: rare });
  const begun = performance.now();
  for (;;) {
    const { rows } = await db.query(
      "select from hark.crew where consumer = $1 and lease_until > clock_timestamp()",
      [options.id],
    );
    if (rows.length > 0) break;
    if (performance.now() - begun > 60_000) throw new Error("no worker serves it");
  }
  await worker.ask({ reset: true });
  await seek(db, options.id, "beginning");
  const { first, ms: all } = await worker.handled(rare);
  await worker.stop();
  return { first, all };
}

const variants: [string, (pass: number) => Promise<Pass>][] = [
  ["plain SELECT, pages of 500, no index", () => fromStart("pages-500", "rare")],
  ["plain SELECT, index on (channel, id)", () => fromStart("pages-plain", "rare")],
  ["Hark: a new consumer", (pass) => fromStart("hark", "rare", `new-${pass}`)],
  ["Hark: after seek to the beginning", (pass) => moved(pass)],
];
if (!given.has("no-peers")) {
  await graphile.install(url);
  const utils = await graphile.publisher(url);
  for (const task of ["rare", "old"]) await utils.addJob(task, {});
  await utils.release();
  const boss = await pgboss.start(url, { publishes: true });
  for (const queue of ["rare", "old"]) await pgboss.queue(boss, queue);
  await boss.stop({ graceful: false });
  variants.push(
    ["graphile-worker, a task", async () => {
      await db.query("truncate graphile_worker._private_jobs");
      await fillGraphile(db, { rows, bytes, channel });
      return await fromStart("graphile", "rare");
    }],
    ["pg-boss, a queue", async () => {
      await db.query("truncate pgboss.job");
      await fillBoss(db, { rows, bytes, channel });
      return await fromStart("pgboss", "rare");
    }],
  );
}
const results = await alternate(given.repeats, variants);
await print({
  title: `${rare} of ${rows} rows are for one reader, ms`,
  rows: [...results].map(([name, passes]) => ({
    system: name,
    "first handled after": round(median(passes.map(({ first }) => first))),
    "all handled after": round(median(passes.map(({ all }) => all))),
    "rows passed a second": round(rows / (median(passes.map(({ all }) => all)) / 1000)),
  })),
  notes: [
    `One in ${every}, payloads of ${bytes} bytes, medians of ${given.repeats} in turns. The first of them is ` +
    `row ${every}. Times run from the start of a connected worker; after a seek, from the seek.`,
  ],
}, given);
