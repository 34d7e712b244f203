/**
 * The relay: notifications a second from a backlog into a stream of NATS, beside NATS's own client that
 * publishes the same from memory; and how long a notification takes from the publishing call until the
 * stream has acknowledged it.
 *
 *     deno task bench relay [--count 20000] [--keys 1000,1] [--in-flight 1000] [--latencies 300]
 *       [--nats nats://127.0.0.1:4222] [--repeats 3] [--json]
 *
 * Works in a database and streams of its own, which it removes. Needs a NATS server with JetStream.
 *
 * @module
 */

import { notify, notifyMany } from "@hark/postgres";
import { jetStream, relay } from "@hark/postgres/relay";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { headers as makeHeaders } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { flags, median, round } from "./flags.ts";
import { ownDatabase, pause, quantile } from "./own.ts";
import { print, type Row } from "./table.ts";

const given = flags({
  count: "20000",
  keys: "1000,1",
  "in-flight": "1000",
  latencies: "300",
  nats: "nats://127.0.0.1:4222",
});
const count = given.number("count");
const inFlight = given.number("in-flight");
const servers = given.text("nats");
const stream = "HARK_BENCH";
const payload = { text: "x".repeat(150) };

await using own = await ownDatabase();
const { db } = own;
const nc = await connect({ servers: new URL(servers).host });
const manager = await jetstreamManager(nc);

/** Makes the stream anew, empty. */
async function empty(): Promise<void> {
  await manager.streams.delete(stream).catch((error) => {
    if (error.code !== 10059) throw error; // there was none
  });
  await manager.streams.add({ name: stream, subjects: ["bench.>"] });
}

/** Publishes a backlog on a channel. */
async function backlog(channel: string, keys: number): Promise<void> {
  for (let from = 0; from < count; from += 1_000) {
    await notifyMany(
      db,
      Array.from({ length: Math.min(1_000, count - from) }, (_, i) => ({
        channel,
        key: `k${(from + i) % keys}`,
        payload,
      })),
    );
  }
}

let names = 0;

/** Notifications a second, through a relay. */
async function relayed(channel: string): Promise<number> {
  await empty();
  const to = jetStream({ servers, stream, subject: "bench.x" });
  const out = relay(db, { id: `relay${++names}`, channels: channel, inFlight, to });
  const begun = performance.now();
  await out.drain();
  const took = performance.now() - begun;
  const { state: { messages } } = await manager.streams.info(stream);
  if (messages !== count) throw new Error(`the stream has ${messages} messages, not ${count}`);
  return count / took * 1000;
}

/** Messages a second of the client alone, with the same headers and body. */
async function fromMemory(): Promise<number> {
  await empty();
  const js = jetstream(nc);
  const body = new TextEncoder().encode(JSON.stringify(payload));
  const install = crypto.randomUUID();
  const under = new Set<Promise<unknown>>();
  const begun = performance.now();
  for (let i = 0; i < count; i++) {
    const headers = makeHeaders();
    headers.append("Nats-Msg-Id", `hark:${install}:${i}`);
    headers.append("Hark-Install", install);
    headers.append("Hark-Id", String(i));
    headers.append("Hark-Channel", "bench");
    headers.append("Hark-Time", new Date().toISOString());
    headers.append("Hark-Key", "k1");
    headers.append("Nats-Expected-Stream", stream);
    const sent = js.publish("bench.x", body, { headers }).finally(() => under.delete(sent));
    under.add(sent);
    if (under.size >= inFlight) await Promise.race(under);
  }
  await Promise.all(under);
  return count / (performance.now() - begun) * 1000;
}

/** Milliseconds from the publishing call to the acknowledgement of the stream, on an idle system. */
async function latencies(): Promise<number[]> {
  await empty();
  const begun = new Map<number, number>();
  const took: number[] = [];
  const acknowledged = new Map<number, number>();
  const note = (id: number) => {
    const [from, to] = [begun.get(id), acknowledged.get(id)];
    if (from !== undefined && to !== undefined) took.push(to - from);
  };
  const out = relay(db, {
    id: `relay${++names}`,
    channels: "live",
    from: "now",
    to: jetStream({ servers, stream, subject: "bench.x" }),
    onPublished({ id }) {
      acknowledged.set(id, performance.now());
      note(id);
    },
  });
  const running = out.run();
  await out.ready;
  for (let i = 0; i < given.number("latencies"); i++) {
    const from = performance.now();
    const id = await notify(db, "live", payload, { key: `k${i}` });
    begun.set(id, from);
    note(id);
    await pause(20);
  }
  await pause(1_000);
  await out.stop();
  await running;
  return took;
}

const rows: Row[] = [];
for (const keys of given.numbers("keys")) {
  const channel = `keys${keys}`;
  await backlog(channel, keys);
  const pairs: [number, number][] = [];
  for (let i = 0; i < given.repeats; i++) pairs.push([await relayed(channel), await fromMemory()]);
  const through = median(pairs.map(([one]) => one));
  const alone = median(pairs.map(([, other]) => other));
  rows.push({
    what: `${keys} key${keys === 1 ? "" : "s"}`,
    "relay, a second": round(through),
    "client from memory, a second": round(alone),
    "relay / client": round(median(pairs.map(([one, other]) => one / other)), 2),
    "median ms": null,
    "99 % ms": null,
  });
}
const took = await latencies();
rows.push({
  what: `idle, ${took.length} notifications`,
  "relay, a second": null,
  "client from memory, a second": null,
  "relay / client": null,
  "median ms": round(quantile(took, 0.5), 1),
  "99 % ms": round(quantile(took, 0.99), 1),
});
await manager.streams.delete(stream);
await nc.close();
await print({
  title: "The relay to NATS JetStream",
  notes: [
    `${count} notifications of 160 bytes, at most ${inFlight} in flight, one process, file storage, one replica.`,
    `Median of ${given.repeats} pairs: the relay, then the client alone with the same headers.`,
    "With one key, each message waits for the acknowledgement of the one before. The client does not.",
  ],
  rows,
}, given);
