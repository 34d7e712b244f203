/**
 * A NATS server with JetStream: the one that runs, with a stream for each test, or one of the test's own
 * to be killed.
 *
 * @module
 */

import { cp } from "node:fs/promises";
import {
  AckPolicy,
  type ConsumerInfo,
  DeliverPolicy,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  type StreamConfig,
  type StreamState,
} from "@nats-io/jetstream";
import { headers as makeHeaders } from "@nats-io/nats-core";
import { connect, type ConnectionOptions, type NatsConnection } from "@nats-io/transport-node";
import { guardSockets } from "../../src/relay/jetstream/guard.ts";
import { type Scratch, scratch } from "./files.ts";
import { quietPort } from "./ports.ts";
import { until } from "./until.ts";

/** The server of NATS_URL, else the usual one of this machine. */
export const natsUrl: string = Deno.env.get("NATS_URL") || "nats://127.0.0.1:4222";

/** Where the program may be. */
const places = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];

/** The program, if this machine has it. */
export const natsServer: string | undefined = places.find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
});

/** Why tests cannot use the server of a URL; undefined if they can. */
export async function unfit(url: string): Promise<string | undefined> {
  const { hostname, port } = new URL(url);
  try {
    using connection = await Deno.connect({ hostname, port: Number(port) || 4222 });
    // A server says first what it has.
    let info = "";
    for await (const text of connection.readable.pipeThrough(new TextDecoderStream())) {
      info += text;
      if (info.includes("\n")) break;
    }
    return /"jetstream":true/.test(info) ? undefined : `the server at ${url} has no JetStream`;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return `no server answers at ${url}`;
    throw error;
  }
}

const reason = await unfit(natsUrl);
if (reason !== undefined) console.log(`Tests with NATS are left out: ${reason}.`);
/** Whether a server with JetStream runs. */
export const natsRuns: boolean = reason === undefined;
if (natsServer === undefined) {
  console.log(`Tests that kill NATS are left out: there is no ${places.join(", ")}.`);
}

/** A message of a stream, as tests look at it. */
export interface Stored {
  readonly seq: number;
  readonly subject: string;
  readonly text: string;
  readonly id: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** Streams of a server, and what is in them. */
export class Nats implements AsyncDisposable {
  readonly #nc: NatsConnection;
  readonly #made: string[] = [];

  constructor(nc: NatsConnection) {
    this.#nc = nc;
  }

  /** Connects to a server; by default the one that runs. */
  static async open(url: string = natsUrl, login: Partial<ConnectionOptions> = {}): Promise<Nats> {
    guardSockets(); // a server that is killed must not end the tests
    const { host } = new URL(url);
    return new Nats(
      await connect({ servers: host, maxReconnectAttempts: -1, reconnectTimeWait: 50, ...login }),
    );
  }

  /** The connection. */
  get connection(): NatsConnection {
    return this.#nc;
  }

  /** Makes a stream with a name and subjects of its own: `NAME.>`. It is removed at the end. */
  async stream(config: Partial<StreamConfig> = {}): Promise<string> {
    const name = config.name ?? `t${crypto.randomUUID().replaceAll("-", "").slice(0, 12)}`;
    const manager = await jetstreamManager(this.#nc);
    await manager.streams.add({
      name,
      subjects: [`${name}.>`],
      retention: RetentionPolicy.Limits,
      ...config,
    });
    this.#made.push(name);
    return name;
  }

  /** Deletes a stream and makes it anew, without its messages. */
  async remake(stream: string): Promise<void> {
    const manager = await jetstreamManager(this.#nc);
    const { config } = await manager.streams.info(stream);
    await manager.streams.delete(stream);
    await manager.streams.add(config);
  }

  /** Publishes a message, and waits until a stream has it. */
  async send(subject: string, body: string, headers: Record<string, string> = {}): Promise<void> {
    const all = makeHeaders();
    for (const [name, value] of Object.entries(headers)) all.set(name, value);
    await jetstream(this.#nc).publish(subject, body, { headers: all });
  }

  /** Removes the consumers of a stream: all that they have acknowledged is forgotten. */
  async forget(stream: string): Promise<void> {
    const manager = await jetstreamManager(this.#nc, { checkAPI: false });
    for await (const { name } of manager.consumers.list(stream)) {
      await manager.consumers.delete(stream, name);
    }
  }

  /** Sets for how many seconds a stream remembers ids. */
  async window(stream: string, seconds: number): Promise<void> {
    const manager = await jetstreamManager(this.#nc, { checkAPI: false });
    await manager.streams.update(stream, { duplicate_window: seconds * 1e9 });
  }

  /** The number of messages that a stream has. */
  async count(stream: string): Promise<number> {
    const manager = await jetstreamManager(this.#nc, { checkAPI: false });
    return (await manager.streams.info(stream)).state.messages;
  }

  /** What the server knows of a stream and its consumers. */
  async look(stream: string): Promise<{ state: StreamState; consumers: ConsumerInfo[] }> {
    const manager = await jetstreamManager(this.#nc, { checkAPI: false });
    const { state } = await manager.streams.info(stream);
    return { state, consumers: await Array.fromAsync(manager.consumers.list(stream)) };
  }

  /** All messages of a stream, in order. */
  async all(stream: string): Promise<Stored[]> {
    const manager = await jetstreamManager(this.#nc, { checkAPI: false });
    const { state: { messages, last_seq } } = await manager.streams.info(stream);
    const stored: Stored[] = [];
    if (messages === 0) return stored;
    const { name } = await manager.consumers.add(stream, {
      deliver_policy: DeliverPolicy.All,
      ack_policy: AckPolicy.None,
      mem_storage: true,
      inactive_threshold: 60e9,
    });
    const consumer = await jetstream(this.#nc).consumers.get(stream, name);
    while ((stored.at(-1)?.seq ?? 0) < last_seq) {
      for await (const m of await consumer.fetch({ max_messages: 5_000, expires: 5_000 })) {
        const headers: Record<string, string> = {};
        for (const [key, values] of m.headers ?? []) headers[key] = values[0]!;
        stored.push({
          seq: m.seq,
          subject: m.subject,
          text: m.string(),
          id: headers["Nats-Msg-Id"],
          headers,
        });
        if (m.seq >= last_seq) break;
      }
    }
    await consumer.delete();
    return stored;
  }

  /** Waits until a stream has `count` messages, and gives all that it has then. */
  async atLeast(stream: string, count: number, deadline = 10_000): Promise<Stored[]> {
    await until(async () => (await this.count(stream)) >= count, {
      deadline,
      what: `${count} messages in ${stream}`,
    });
    return await this.all(stream);
  }

  /** Removes the streams, and closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#nc.isClosed()) {
      const manager = await jetstreamManager(this.#nc, { checkAPI: false });
      for (const name of this.#made) {
        await manager.streams.delete(name).catch((error) => {
          if (error.code !== 10059) throw error; // the test has removed it
        });
      }
    }
    await this.#nc.close();
  }
}

/** A server of a test's own. */
export class OwnNats implements AsyncDisposable {
  readonly #folder: Scratch;
  readonly #config: string;
  #process: Deno.ChildProcess | undefined;
  /** Its port on 127.0.0.1. */
  readonly port: number;

  private constructor(folder: Scratch, port: number, config: string) {
    this.#folder = folder;
    this.port = port;
    this.#config = config;
  }

  /** Starts one. `config` is what its configuration has besides the port and JetStream. */
  static async start(config = "", port = quietPort()): Promise<OwnNats> {
    const server = new OwnNats(await scratch(), port, config);
    await server.start();
    return server;
  }

  /** Where to connect. */
  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** Starts it, on the same port, with the same data. */
  async start(): Promise<void> {
    const { path } = this.#folder;
    await Deno.writeTextFile(
      `${path}/nats.conf`,
      `host: 127.0.0.1\nport: ${this.port}\njetstream { store_dir: "${path}/js" }\n${this.#config}\n`,
    );
    this.#process = new Deno.Command(natsServer!, {
      args: ["-c", `${path}/nats.conf`, "-l", `${path}/log`],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await until(async () => await unfit(this.url) === undefined, {
      deadline: 10_000,
      what: "nats-server to answer",
    });
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async #end(signal: Deno.Signal): Promise<void> {
    this.#process?.kill(signal);
    await this.#process?.status;
    this.#process = undefined;
  }

  /** Starts it again, and keeps a copy of the data that it has. */
  async keep(): Promise<void> {
    const { path } = this.#folder;
    await this.#end("SIGTERM"); // so that all is written
    await cp(`${path}/js`, `${path}/kept`, { recursive: true });
    await this.start();
  }

  /** Starts it again with the data that was kept, as after a power cut. */
  async goBack(): Promise<void> {
    const { path } = this.#folder;
    await this.kill();
    await Deno.remove(`${path}/js`, { recursive: true });
    await Deno.rename(`${path}/kept`, `${path}/js`);
    await this.start();
  }

  /** The end of its log, of all that it has been. */
  async log(): Promise<string> {
    return (await Deno.readTextFile(`${this.#folder.path}/log`)).split("\n").slice(-200).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#folder[Symbol.asyncDispose]();
  }
}
