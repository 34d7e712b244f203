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
import { fromFileUrl } from "../tests/harness/files.ts";
import { flags, round } from "./flags.ts";
import { ownDatabase, pause } from "./own.ts";
import { print } from "./table.ts";
import { TextLineStream } from "./workers/lines.ts";

const given = flags({ clients: "1000", silent: "10", count: "200", rate: "20" });
const [clients, silent, count, rate] = ["clients", "silent", "count", "rate"].map(given.number);

/** Clients in a process of their own. */
class Clients implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;

  constructor(port: number, path: string, count: number, reads: boolean) {
    this.#process = new Deno.Command("deno", {
      args: [
        "run",
        "--no-prompt",
        "--quiet",
        "--lock=dev.lock",
        "-P=measure",
        fromFileUrl(new URL("./streams/clients.ts", import.meta.url)),
        ...[port, path, count, reads].map(String),
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#input = this.#process.stdin.getWriter();
    this.#lines = this.#process.stdout.pipeThrough(new TextLineStream()).getReader();
  }

  async line(): Promise<string> {
    return (await this.#lines.read()).value ?? "";
  }

  async ask(): Promise<{ events: number; p50: number; p99: number }> {
    await this.#input.write(new TextEncoder().encode("?\n"));
    return JSON.parse(await this.line());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
  }
}

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
const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, handle);

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
await server.shutdown();
