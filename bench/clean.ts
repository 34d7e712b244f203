/**
 * Cleaning: removing the old half of a long log while publishing goes on. Prints how long it takes,
 * and how publishers are affected: the median, the 99.9 % quantile and the worst of their calls.
 * Compared with a plain DELETE in one statement, a plain DELETE by 10,000, pg-boss's maintenance of
 * finished jobs, and publishing undisturbed. graphile-worker does not keep finished jobs.
 *
 *     deno task bench clean [--rows 1000000] [--bytes 100] [--clients 4] [--no-peers]
 *       [--repeats 3] [--json]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { cleanup } from "@hark/postgres";
import { alternate, flags, median, round } from "./flags.ts";
import { fillBoss, fillLog } from "./fill.ts";
import { payloadOf, plainTable } from "./floor.ts";
import { ownDatabase, pause, quantile } from "./own.ts";
import * as pgboss from "./peers/pgboss.ts";
import { print } from "./table.ts";

const given = flags({ rows: "1000000", bytes: "100", clients: "4", "no-peers": false });
const [rows, bytes] = [given.number("rows"), given.number("bytes")];

await using own = await ownDatabase();
const { db, url } = own;
await plainTable(db);
const payload = JSON.stringify(payloadOf(bytes));
await using ends = new AsyncDisposableStack();
const boss = given.has("no-peers") ? undefined : await pgboss.start(url, { connections: 2 });
if (boss !== undefined) {
  ends.defer(() => boss.stop({ graceful: false }));
  for (const queue of ["old", "new"]) await pgboss.queue(boss, queue);
}
const publishing = {
  "hark.log": "select hark.notify('new', $1)",
  "plain.log": "insert into plain.log (channel, payload) values ('new', $1) returning id",
  "pgboss.job": boss === undefined ? "" : await pgboss.sendStatement(boss, "new", {}, "$1"),
};
type Table = keyof typeof publishing;

/**
 * Publishes on several connections until cleaning ends, one call after the other on each
 * connection. Returns the milliseconds of each call.
 */
async function publish(table: Table, until: Promise<unknown>): Promise<number[]> {
  let over = false;
  void until.finally(() => over = true);
  const times: number[] = [];
  await Promise.all(Array.from({ length: given.number("clients") }, async () => {
    const client = new pg.Client({ connectionString: url });
    client.on("error", (error) => console.error(error.message));
    await client.connect();
    while (!over) {
      const begun = performance.now();
      await client.query({ name: "publish", text: publishing[table], values: [payload] });
      times.push(performance.now() - begun);
    }
    await client.end();
  }));
  return times;
}

/** Creates jobs of pg-boss, half of them finished long ago and half of them lately. */
async function fillDone(): Promise<void> {
  await fillBoss(db, { rows, bytes });
  await db.query(
    `update pgboss.job set state = 'completed', completed_on = now() -
      case when (data ->> 'n')::int <= $1 then interval '60 days' else interval '1 hour' end`,
    [rows / 2],
  );
  await db.query("vacuum analyze pgboss.job");
  // Otherwise its next maintenance would be due tomorrow.
  await db.query("update pgboss.queue set maintain_on = null");
}

/**
 * Fills a log, half of it old, and cleans it while publishers run. Verifies that no newer row is
 * gone.
 */
async function measure(table: Table, clean: () => Promise<unknown>) {
  await db.query(`truncate ${table}`);
  if (table === "pgboss.job") await fillDone();
  else {await fillLog(db, {
      table,
      rows,
      bytes,
      createdAt: `now() - case when n <= ${
        rows / 2
      } then interval '60 days' else interval '1 hour' end`,
    });}
  const begun = performance.now();
  let seconds = 0;
  const cleaning = (async () => {
    await pause(300);
    const start = performance.now();
    await clean();
    seconds = (performance.now() - start) / 1000;
  })();
  const times = await publish(table, cleaning);
  await cleaning;
  const [name, age] = table === "pgboss.job"
    ? ["name", "completed_on < now() - interval '30 days'"]
    : ["channel", old];
  const { rows: [left] } = await db.query(
    `select count(*) filter (where ${age})::int as old, count(*)::int as both from ${table}
    where ${name} = 'old'`,
  );
  if (left.both - left.old !== rows / 2) {
    throw new Error(`${left.both - left.old} of ${rows / 2} newer rows are left`);
  }
  const { rows: [{ there }] } = await db.query(
    `select count(*)::int as there from ${table}
    where ${name} = 'new'`,
  );
  if (there !== times.length) {
    throw new Error(`${there} of ${times.length} notifications were stored`);
  }
  return {
    removed: rows - left.both,
    seconds,
    rate: times.length / ((performance.now() - begun) / 1000),
    p50: quantile(times, 0.5),
    p999: quantile(times, 0.999),
    worst: quantile(times, 1),
  };
}

const nothing = async () => {
  await pause(3000);
};
const old = "created_at < now() - interval '30 days'";
const variants: [string, () => ReturnType<typeof measure>][] = [
  ["plain table, nothing removed", () => measure("plain.log", nothing)],
  ["plain DELETE, one statement", () =>
    measure("plain.log", async () => {
      const client = new pg.Client({ connectionString: url });
      client.on("error", (error) => console.error(error.message));
      await client.connect();
      const { rowCount } = await client.query(`delete from plain.log where ${old}`);
      await client.end();
      return rowCount;
    })],
  ["plain DELETE by 10,000", () =>
    measure("plain.log", async () => {
      const client = new pg.Client({ connectionString: url });
      client.on("error", (error) => console.error(error.message));
      await client.connect();
      let removed = 0;
      for (let last: unknown = 0;;) {
        const { rows } = await client.query(
          `with d as (delete from plain.log where id = any (array(
            select id from plain.log where id > $1 and ${old} order by id limit 10000)) returning id)
          select count(*)::int as removed, max(id) as last from d`,
          [last],
        );
        if (rows[0].removed === 0) break;
        removed += rows[0].removed;
        last = rows[0].last;
      }
      await client.end();
      return removed;
    })],
  ["Hark, nothing removed", () => measure("hark.log", nothing)],
  [
    "Hark: cleanup",
    () => measure("hark.log", () => cleanup(db, { olderThan: "30d" })),
  ],
  [
    "Hark: cleanup, exact",
    () => measure("hark.log", () => cleanup(db, { olderThan: "30d", exact: true })),
  ],
];
if (boss !== undefined) {
  variants.push(
    ["pg-boss, nothing removed", () => measure("pgboss.job", nothing)],
    ["pg-boss: maintenance", () => measure("pgboss.job", () => boss.supervise("old"))],
  );
}
const results = await alternate(given.repeats, variants);
await print({
  title: `Removing the older half of ${rows} rows while ${given.text("clients")} clients publish`,
  rows: [...results].map(([name, passes]) => {
    const of = (what: keyof (typeof passes)[number]) => median(passes.map((pass) => pass[what]));
    const removes = !name.includes("nothing");
    return {
      system: name,
      seconds: removes ? round(of("seconds")) : null,
      "rows removed": removes ? of("removed") : null,
      "published a second": round(of("rate")),
      "p50, ms": round(of("p50")),
      "p99.9, ms": round(of("p999")),
      "worst, ms": round(Math.max(...passes.map(({ worst }) => worst))),
    };
  }),
  notes: [
    `npm:pg, ${
      given.text("clients")
    } connections, one call after the other on each; payloads of ${bytes} ` +
    `bytes; medians of ${given.repeats} in turns, the worst of all.`,
  ],
}, given);
