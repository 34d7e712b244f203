/**
 * Reading from a standby: what it costs the primary. A replay of a long log; and `hark tail`, many subscriptions, and
 * clients of streams while notifications are published at a rate: with the readers on the primary, on its standby,
 * and, for the rate, without readers. Prints what the readers asked of the primary, the processor time of the primary's
 * processes, and how long a notification takes from the call of `notify` to the line, the loop or the socket.
 *
 * It fails unless the replay, the tail and each subscription saw each id once that was published.
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
import { checkIds } from "./replica/ids.ts";
import { type Printed, Tail } from "./replica/tail.ts";
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

async function replay(db: Database): Promise<number[]> {
  const seen: number[] = [];
  for await (const { id } of subscribe(db, "old", { from: "beginning", follow: false })) {
    seen.push(id);
  }
  return seen;
}

/** What a replay has, which is not about single notifications. */
const none = { "p50, ms": null, "p99, ms": null };

/** The time by a clock that processes share, in ms. */
const clock = () => performance.timeOrigin + performance.now();

/** Publishes at the rate, with a time in each payload. Returns the ids. */
async function publish(channel = "live"): Promise<number[]> {
  await using db = await connect(primary.url);
  const begun = performance.now();
  const ids: number[] = [];
  for (let n = 0; n < rate * seconds; n++) {
    await pause(Math.max(0, begun + n * 1000 / rate - performance.now()));
    ids.push(await notify(db, channel, { at: clock() }));
  }
  return ids;
}

/** Waits until what was published has come. On a busy machine that may be later than what is measured. */
async function come(times: readonly number[], count: number): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (times.length < count && performance.now() < deadline) await pause(50);
}

/** The middle and the late ones of times from `notify` to the reader. */
function spread(times: readonly number[]) {
  if (times.length === 0) return none;
  return { "p50, ms": round(quantile(times, 0.5)), "p99, ms": round(quantile(times, 0.99)) };
}

async function live(db: Database | undefined) {
  const times: number[] = [];
  const end = new AbortController();
  const ready: Promise<void>[] = [];
  const reading = db === undefined ? [] : Array.from({ length: readers }, async () => {
    const begun = Promise.withResolvers<void>();
    ready.push(begun.promise);
    const options = { signal: end.signal, onReady: begun.resolve };
    const seen: number[] = [];
    for await (const { id, payload } of subscribe(db, "live", options)) {
      times.push(clock() - payload.at);
      seen.push(id);
    }
    return seen;
  });
  await Promise.all(ready);
  await pause(2000);
  let published: number[] = [];
  const found = await measured(async () => {
    published = await publish();
    await pause(3000);
  });
  await come(times, published.length * reading.length);
  end.abort();
  for (const [i, seen] of (await Promise.all(reading)).entries()) {
    checkIds(`subscription ${i}`, seen, published);
  }
  return { ...found, ...spread(times) };
}

/** The same with one `hark tail`, in a process of its own. */
async function tailed(replica: string | undefined) {
  const times: number[] = [];
  const channel = `tail of ${replica === undefined ? "the primary" : "the standby"}`;
  await using publisher = await connect(primary.url);
  const first = await notify(publisher, channel, { at: clock() });
  const begun = Promise.withResolvers<void>();
  const note = ({ payload }: Printed) => {
    times.push(clock() - payload.at);
    begun.resolve();
  };
  const where = { url: asReader(primary.url), replica };
  await using tail = new Tail(channel, first, where, note);
  await begun.promise;
  await pause(2000);
  times.length = 0;
  let published: number[] = [];
  const found = await measured(async () => {
    published = await publish(channel);
    await pause(3000);
  });
  await come(times, published.length);
  checkIds("hark tail", tail.printed.map(({ id }) => id), [first, ...published]);
  return { ...found, ...spread(times) };
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
const filled: number[] =
  (await once(primary.url, "select id::int from hark.log where channel = 'old'"))
    .map(({ id }) => id);
for (const [where, replica] of [["primary", undefined], ["standby", standby.url]] as const) {
  say(`a replay on the ${where}`);
  const db = await connect(
    asReader(primary.url),
    replica === undefined ? {} : { replica: asReader(replica) },
  );
  const work = `replay of ${total} rows, read from the ${where}`;
  let seen: number[] = [];
  rows.push({ work, ...await measured(async () => seen = await replay(db)), ...none });
  checkIds(work, seen, filled);
  await db.close();
}
say("no readers");
rows.push({ work: `${rate}/s, no readers`, ...await live(undefined) });
for (const [where, replica] of [["primary", undefined], ["standby", standby.url]] as const) {
  const on = () =>
    connect(asReader(primary.url), replica === undefined ? {} : { replica: asReader(replica) });
  say(`hark tail: ${where}`);
  rows.push({
    work: `${rate}/s, hark tail on the ${where}`,
    ...await tailed(replica === undefined ? undefined : asReader(replica)),
  });
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
