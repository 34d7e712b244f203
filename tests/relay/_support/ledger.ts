/**
 * A ledger of what was committed beside what is in the stream, while processes are killed and lines cut.
 *
 * @module
 */

import assert from "node:assert/strict";
import { connect, type Database, notifyMany } from "../../../mod.ts";
import {
  type Child,
  type CutProxy,
  cutProxy,
  type OwnServer,
  ownServer,
  spawnDeno,
  until,
} from "../../harness/mod.ts";
import { Nats, OwnNats, type Stored } from "../../harness/nats.ts";
import { tell } from "./tell.ts";

/** What can go wrong. */
export type Fault =
  | "relay"
  | "frozen"
  | "nats"
  | "postgres"
  | "silence"
  | "severed"
  | "long outage";

/** What came of it. */
export interface Result {
  readonly committed: number;
  readonly stored: number;
  readonly lost: number;
  readonly doubled: number;
  readonly disordered: number;
  readonly faults: number;
}

/** Publishes to keys, one number after another, until told to stop, over whatever happens. */
export class Writer {
  readonly #db: Database;
  readonly #done: Promise<void>;
  #stop = false;
  #n = 0;

  constructor(db: Database, readonly keys = 20, readonly pauseMs = 5) {
    this.#db = db;
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#stop) {
      const batch = Array.from({ length: 10 }, () => {
        const n = this.#n++;
        return { channel: "orders", key: `k${n % this.keys}`, payload: n };
      });
      try {
        await notifyMany(this.#db, batch);
      } catch {
        // Whether it was committed, the log tells at the end. The server may be away for a while.
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      await new Promise((resolve) => setTimeout(resolve, this.pauseMs));
    }
  }

  /** Ends it. */
  async stop(): Promise<void> {
    this.#stop = true;
    await this.#done;
  }
}

/** What is in the log, by id. */
export async function committed(
  server: OwnServer,
): Promise<Map<number, { key: string; n: number }>> {
  const rows = await server.sql(
    "select id, key, payload from hark.log where channel = 'orders' order by id",
  );
  return new Map(rows.map(({ id, key, payload }) => [Number(id), { key, n: Number(payload) }]));
}

/** Compares the log with the stream. */
export function compare(
  log: ReadonlyMap<number, { readonly key: string; readonly n: number }>,
  stored: readonly Stored[],
  faults: number,
): Result {
  const seen = new Set<number>();
  const last = new Map<string, number>();
  let [doubled, disordered] = [0, 0];
  for (const { headers, text } of stored) {
    const id = Number(headers["Hark-Id"]);
    const key = headers["Hark-Key"]!;
    assert.equal(log.get(id)?.n, Number(text), `notification ${id} of the stream is in the log`);
    if (seen.has(id)) doubled++;
    else if ((last.get(key) ?? 0) > id) disordered++;
    seen.add(id);
    last.set(key, id);
  }
  const lost = [...log.keys()].filter((id) => !seen.has(id)).length;
  return { committed: log.size, stored: stored.length, lost, doubled, disordered, faults };
}

/** What is broken. */
interface Stage {
  readonly server: OwnServer;
  readonly nats: OwnNats;
  readonly proxy: CutProxy;
  /** The processes, the one that is broken next first. */
  children: Child[];
  /** Starts one. */
  readonly launch: () => Promise<Child>;
  /** How far the other side is. */
  readonly count: () => Promise<number>;
  /** What NATS knows of the stream. */
  readonly look: () => Promise<unknown>;
}

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Breaks things in turn, each time once something has come through again. Gives how often. */
async function play(
  faults: readonly Fault[],
  seconds: number,
  stage: Stage,
  say: (line: string) => void,
): Promise<number> {
  const { server, nats, proxy, launch, count } = stage;
  const progress = async (more: number) => {
    const before = await count();
    await until(async () => (await count()) > before + more, {
      deadline: 60_000,
      what: `${more} more behind ${before}; ${stage.children.map(({ stderr }) => stderr).join()}`,
    });
  };
  const end = performance.now() + seconds * 1000;
  let happened = 0;
  for (; happened < faults.length || performance.now() < end; happened++) {
    const fault = faults[happened % faults.length]!;
    await progress(100);
    const begun = performance.now();
    switch (fault) {
      case "relay": {
        const [victim, ...others] = stage.children;
        victim!.kill("SIGKILL");
        await victim!.ended();
        stage.children = [...others, await launch()];
        break;
      }
      case "frozen":
        stage.children[0]!.kill("SIGSTOP");
        await wait(3_000); // longer than the lease
        stage.children[0]!.kill("SIGCONT");
        break;
      case "nats":
        await nats.kill();
        await nats.start();
        break;
      case "long outage":
        await nats.kill();
        await wait(11_000); // longer than the stream remembers ids
        await nats.start();
        break;
      case "postgres":
        await server.kill();
        await server.start();
        break;
      case "silence":
        proxy.silence();
        await wait(2_000);
        proxy.resume();
        break;
      case "severed":
        proxy.sever();
        break;
    }
    await progress(100);
    for (const { stderr } of stage.children) assert(!/Error:/.test(stderr), stderr);
    say(`${fault}: goes on after ${Math.round(performance.now() - begun)} ms`);
  }
  return happened;
}

/** Waits until all has come, for as long as something comes: the other side may be far behind, and slow. */
async function arrived(
  count: () => Promise<number>,
  wanted: number,
  say: (line: string) => void,
): Promise<void> {
  for (let have = await count(); have < wanted;) {
    const before = have;
    try {
      have = await until(async () => {
        const now = await count();
        return now > before ? now : 0;
      }, { deadline: 60_000, what: `more than ${before} of ${wanted}` });
    } catch (error) {
      return say(String(error));
    }
  }
}

async function end(stage: Stage): Promise<void> {
  for (const child of stage.children) child.kill("SIGKILL");
  await Promise.all(stage.children.map((child) => child.ended()));
}

/** Asks, again if the server is away just then. */
async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if ((error as Error).name !== "TimeoutError") throw error;
    }
  }
}

/** Runs relays between a database and a server of NATS, breaks things in turn, and compares. */
export async function relayLedger(
  faults: readonly Fault[],
  seconds: number,
  say: (line: string) => void = () => {},
): Promise<Result> {
  await using server = await ownServer();
  await using nats = await OwnNats.start();
  await using proxy = cutProxy(nats.port);
  await using streams = await Nats.open(nats.url);
  const stream = await streams.stream({ name: "LEDGER", duplicate_window: 10e9 });
  await using db = await connect(server.url, { maxReconnectDelay: 500 });
  const launch = async () => {
    const child = spawnDeno([
      "tests/relay/_support/relaying.ts",
      server.url,
      proxy.through(nats.url),
      stream,
      "4",
    ]);
    await child.line(/ready|Error/, { deadline: 30_000 });
    return child;
  };
  const count = async () => await patiently(() => streams.count(stream));
  const children = [await launch(), await launch()];
  const look = () => streams.look(stream);
  const stage: Stage = { server, nats, proxy, children, launch, count, look };
  const writer = new Writer(db);
  try {
    const happened = await play(faults, seconds, stage, say);
    await writer.stop();
    const log = await committed(server);
    await arrived(count, log.size, say);
    await wait(500); // for what might come twice
    const stored = await streams.all(stream);
    const result = compare(log, stored, happened);
    if (result.lost + result.doubled + result.disordered > 0) {
      const seen = new Set(stored.map(({ headers }) => Number(headers["Hark-Id"])));
      await tell(stage, [...log.keys()].filter((id) => !seen.has(id)), say);
    }
    return result;
  } catch (error) {
    await tell(stage, [], say);
    throw error;
  } finally {
    await writer.stop();
    await end(stage);
  }
}

/** Sends numbers to subjects until told to stop, each until the stream has acknowledged it. */
class Sender {
  readonly #nats: Nats;
  readonly #stream: string;
  readonly #done: Promise<void>;
  #stop = false;

  constructor(nats: Nats, stream: string) {
    this.#nats = nats;
    this.#stream = stream;
    this.#done = this.#run();
  }

  async #run(): Promise<void> {
    for (let n = 0; !this.#stop; n++) {
      for (;;) {
        try {
          const id = { "Nats-Msg-Id": String(n) };
          await this.#nats.send(`${this.#stream}.k${n % 20}`, String(n), id);
          break;
        } catch {
          await wait(50); // the server is away: the same number again
        }
      }
    }
  }

  /** Ends it. */
  async stop(): Promise<void> {
    this.#stop = true;
    await this.#done;
  }
}

/** The same for the way back: what is in the stream beside what was published. */
export async function inboxLedger(
  faults: readonly Fault[],
  seconds: number,
  say: (line: string) => void = () => {},
): Promise<Result> {
  await using server = await ownServer();
  await using nats = await OwnNats.start();
  await using proxy = cutProxy(nats.port);
  await using streams = await Nats.open(nats.url);
  const stream = await streams.stream({ name: "LEDGER" });
  const launch = async () => {
    const child = spawnDeno([
      "tests/relay/_support/taking.ts",
      server.url,
      proxy.through(nats.url),
      stream,
    ]);
    await child.line(/ready|Error/, { deadline: 30_000 });
    return child;
  };
  const count = async () =>
    Number((await server.sql("select count(*) as count from hark.log"))[0].count);
  const look = () => streams.look(stream);
  const stage: Stage = { server, nats, proxy, children: [await launch()], launch, count, look };
  const sender = new Sender(streams, stream);
  try {
    const happened = await play(faults, seconds, stage, say);
    await sender.stop();
    const sent = await patiently(() => streams.all(stream));
    await arrived(count, sent.length, say);
    await wait(500);
    const rows = await server.sql("select key, payload::int as n from hark.log order by id");
    const seen = new Set<number>();
    const last = new Map<string, number>();
    let [doubled, disordered] = [0, 0];
    for (const { key, n } of rows) {
      if (seen.has(n)) doubled++;
      else if ((last.get(key) ?? -1) > n) disordered++;
      seen.add(n);
      last.set(key, n);
    }
    const missing = sent.filter(({ text }) => !seen.has(Number(text))).map(({ seq }) => seq);
    const lost = missing.length;
    if (lost + doubled + disordered > 0) await tell(stage, missing, say);
    return {
      committed: sent.length,
      stored: rows.length,
      lost,
      doubled,
      disordered,
      faults: happened,
    };
  } catch (error) {
    await tell(stage, [], say);
    throw error;
  } finally {
    await sender.stop();
    await end(stage);
  }
}
