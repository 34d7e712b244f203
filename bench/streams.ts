/**
 * Streams: 1,000 clients of one process. Prints how long a notification takes from the call of
 * `notify` to a client's socket, and the memory and connections of the serving process: alone, and
 * beside clients that never read while 10 MB are published for them.
 *
 *     deno task bench streams [--clients 1000] [--silent 10] [--count 200] [--rate 20] [--json]
 *
 * The clients run in processes of their own, on the same machine. Works in a database of its own,
 * which it drops.
 *
 * @module
 */

import { notify, notifyMany } from "@hark/postgres";
import { streams } from "@hark/postgres/streams";
import { flags, round } from "./flags.ts";
import { ownDatabase, pause } from "./own.ts";
import { Clients } from "./streams/process.ts";
import { print } from "./table.ts";

const given = flags({ clients: "1000", silent: "10", count: "200", rate: "20" });
const [clients, silent, count, rate] = ["clients", "silent", "count", "rate"].map(given.number);

await using own = await ownDatabase();
const { db } = own;
const end = new AbortController();
const handle = streams(db, {
  authorize: () => true,
  route: (request) => ({
    channels: new URL(request.url).pathname === "/both" ? ["live", "bulk"] : "live",
  }),
  signal: end.signal,
});
// Its end waits for its clients, so they end first.
await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, handle);

const megabytes = () => Math.round(Deno.memoryUsage().rss / 1_000_000);
const connections = async () => {
  const { rows } = await db.query(
    "select count(*)::int as n from pg_stat_activity where datname = current_database()",
  );
  return rows[0].n as number;
};
let peak = 0;

async function publish(): Promise<void> {
  const begun = performance.now();
  for (let n = 0; n < count!; n++) {
    await pause(Math.max(0, begun + n * 1000 / rate! - performance.now()));
    await notify(db, "live", { at: performance.timeOrigin + performance.now(), n });
    peak = Math.max(peak, megabytes());
  }
  await pause(2000);
}

const rows: Record<string, string | number>[] = [];
async function measured(name: string, work: () => Promise<unknown>): Promise<void> {
  await work();
  const { events, p50, p99 } = await readers.ask();
  rows.push({
    clients: name,
    "p50, ms": round(p50),
    "p99, ms": round(p99),
    "events lost": clients! * count! - events,
    "memory, MB": peak,
    "connections": await connections(),
  });
}

const before = megabytes();
await using readers = new Clients(server.addr.port, "/live", clients!, true);
await readers.line();
await publish(); // compiles
await readers.ask();
peak = 0;
await measured(`${clients} that read`, publish);
await using others = new Clients(server.addr.port, "/both", silent!, false);
await others.line();
await measured(`beside ${silent} that never read`, async () => {
  const filler = "x".repeat(480);
  const bulk = async () => {
    for (let n = 0; n < 40; n++) {
      await notifyMany(
        db,
        Array.from({ length: 500 }, () => ({ channel: "bulk", payload: filler })),
      );
      await pause(count! / rate! * 1000 / 50);
    }
  };
  await Promise.all([publish(), bulk()]);
});
await print({
  title: "From notify to a client's socket, one process",
  rows,
  notes: [
    `${count} notifications at ${rate} a second. The process had ${before} MB before the first client.`,
    "Connections are all to the database, also those that publish and ask.",
  ],
}, given);
end.abort();
