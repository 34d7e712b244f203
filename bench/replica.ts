/**
 * Reading from a standby: what it costs the primary. A replay of a long log, and many subscriptions and clients of
 * streams while notifications are published at a rate: with the readers on the primary, on its standby, and,
 * for the rate, without readers. Prints what the readers asked of the primary, the processor time of
 * the primary's processes, and how long a notification takes from the call of `notify` to the loop or the socket.
 *
 *     deno task bench replica [--rows 1000000] [--readers 100] [--clients 100] [--rate 100] [--seconds 20] [--json]
 *
 * Starts two servers of its own. Processor times are read in /proc, so it needs Linux.
 *
 * @module
 */

import { connect, type Database, notify, subscribe } from "@hark/postgres";
import { streams } from "@hark/postgres/streams";
import { once, ownServer } from "../tests/harness/mod.ts";
import { standbyOf } from "../tests/faults/_support/standby.ts";
import { fillLog } from "./fill.ts";
import { flags, round, say } from "./flags.ts";
import { pause, quantile } from "./own.ts";
import { Clients } from "./streams/process.ts";
import { print, type Row } from "./table.ts";

const given = flags({
  rows: "1000000",
  readers: "100",
  clients: "100",
  rate: "100",
  seconds: "20",
});
const [total, readers, clients, rate, seconds] =
  (["rows", "readers", "clients", "rate", "seconds"] as const).map(given.number) as [
    number,
    number,
    number,
    number,
    number,
  ];

await using primary = await ownServer({
  settings: { shared_preload_libraries: "pg_stat_statements" },
});
await primary.sql("create extension pg_stat_statements");
await primary.sql("create role reader login password 'reader'");
await primary.sql("select hark.grant_consume('reader')");
await using filler = await connect(primary.url, { queryTimeout: 600_000 });
say(`filling ${total} rows`);
await fillLog(filler, { table: "hark.log", rows: total, bytes: 200 });
await filler.close();
await using standby = await standbyOf(primary);
await standby.caughtUp(primary);

/** The URL with the role of the readers, whose statements are counted. */
function asReader(url: string): string {
  const changed = new URL(url);
  changed.username = changed.password = "reader";
  return changed.href;
}

/** The statements that readers have asked of the primary. */
async function asked(): Promise<number> {
  const [{ calls }] = await once(
    primary.url,
    `select coalesce(sum(calls), 0)::int as calls from pg_stat_statements
      where toplevel and userid = 'reader'::regrole`,
  );
  return calls;
}

/** The processor time of the primary's processes, in seconds. The main process has that of those that ended. */
async function processorTime(): Promise<number> {
  const rows = await once(primary.url, "select pid from pg_stat_activity");
  const pids = [primary.pid, ...rows.map((row) => row.pid)];
  // Deno itself reads nothing of /proc. One that has ended since is left out.
  const { stdout } = await new Deno.Command("cat", {
    args: pids.map((pid) => `/proc/${pid}/stat`),
    stderr: "null",
  }).output();
  let ticks = 0;
  for (const line of new TextDecoder().decode(stdout).trim().split("\n")) {
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ").map(Number);
    ticks += fields[11]! + fields[12]!;
    if (Number.parseInt(line) === primary.pid) ticks += fields[13]! + fields[14]!;
  }
  return ticks / 100;
}

/** Runs work, and tells what the primary did in that time. */
async function measured(work: () => Promise<unknown>) {
  const [statements, time, begun] = [await asked(), await processorTime(), performance.now()];
  await work();
  const ended = performance.now();
  return {
    "s": round((ended - begun) / 1000),
    "statements at the primary": await asked() - statements,
    "primary's CPU, s": round(await processorTime() - time),
  };
}

async function replay(db: Database): Promise<void> {
  let count = 0;
  for await (const _ of subscribe(db, "old", { from: "beginning", follow: false })) count++;
  if (count !== total) throw new Error(`${count} of ${total} came`);
}

/** The time by a clock that processes share, in ms. */
const clock = () => performance.timeOrigin + performance.now();

/** Publishes at the rate, with a time in each payload. */
async function publish(): Promise<void> {
  await using db = await connect(primary.url);
  const begun = performance.now();
  for (let n = 0; n < rate * seconds; n++) {
    await pause(Math.max(0, begun + n * 1000 / rate - performance.now()));
    await notify(db, "live", { at: clock() });
  }
}

async function live(db: Database | undefined) {
  const times: number[] = [];
  const end = new AbortController();
  const ready: Promise<void>[] = [];
  const reading = db === undefined ? [] : Array.from({ length: readers }, async () => {
    const begun = Promise.withResolvers<void>();
    ready.push(begun.promise);
    const options = { signal: end.signal, onReady: begun.resolve };
    for await (const { payload } of subscribe(db, "live", options)) {
      times.push(clock() - payload.at);
    }
  });
  await Promise.all(ready);
  await pause(2000);
  const found = await measured(async () => {
    await publish();
    await pause(3000);
  });
  end.abort();
  await Promise.all(reading);
  if (db !== undefined && times.length !== rate * seconds * readers) {
    throw new Error(`${times.length} of ${rate * seconds * readers} came`);
  }
  return {
    ...found,
    "p50, ms": times.length === 0 ? null : round(quantile(times, 0.5)),
    "p99, ms": times.length === 0 ? null : round(quantile(times, 0.99)),
  };
}

/** The same with clients of streams, in a process of their own. */
async function streamed(db: Database) {
  const end = new AbortController();
  const handle = streams(db, {
    authorize: () => true,
    channels: "live",
    signal: end.signal,
  });
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, handle);
  const reading = new Clients(server.addr.port, "/", clients, true);
  await reading.line();
  await pause(2000);
  await reading.ask();
  const found = await measured(async () => {
    await publish();
    await pause(3000);
  });
  const { events, p50, p99 } = await reading.ask();
  await reading[Symbol.asyncDispose]();
  end.abort();
  await server.shutdown();
  if (events !== rate * seconds * clients) {
    throw new Error(`${events} of ${rate * seconds * clients} came`);
  }
  return { ...found, "p50, ms": round(p50), "p99, ms": round(p99) };
}

const rows: Row[] = [];
const none = { "p50, ms": null, "p99, ms": null };
for (const [where, replica] of [["primary", undefined], ["standby", standby.url]] as const) {
  say(`a replay on the ${where}`);
  const db = await connect(
    asReader(primary.url),
    replica === undefined ? {} : { replica: asReader(replica) },
  );
  const work = `replay of ${total} rows, read from the ${where}`;
  rows.push({ work, ...await measured(() => replay(db)), ...none });
  await db.close();
}
say("no readers");
rows.push({ work: `${rate}/s, no readers`, ...await live(undefined) });
for (const [where, replica] of [["primary", undefined], ["standby", standby.url]] as const) {
  const on = () =>
    connect(asReader(primary.url), replica === undefined ? {} : { replica: asReader(replica) });
  {
    say(`${readers} subscriptions: ${where}`);
    await using db = await on();
    rows.push({ work: `${rate}/s, ${readers} subscriptions on the ${where}`, ...await live(db) });
  }
  say(`${clients} clients of streams: ${where}`);
  await using db = await on();
  rows.push({
    work: `${rate}/s, ${clients} clients of streams on the ${where}`,
    ...await streamed(db),
  });
}
await print({
  title: "Reading from a standby",
  notes: [
    `Payloads of 200 bytes in the replay. The rate lasted ${seconds} s, and 3 s more were measured.`,
    "The processor time is that of all processes of the primary, with those that publish.",
  ],
  rows,
}, given);
