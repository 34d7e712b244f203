/**
 * Many clients of streams in one process, as raw connections: a browser's own work is not measured.
 *
 * Prints a line when all are connected. Answers each line of its input with what has come since, as
 * JSON.
 *
 * @module
 */

import { quantile } from "../own.ts";
import { TextLineStream } from "../workers/lines.ts";

const [port, path, count, reads] = Deno.args;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
let times: number[] = [];

async function connected(): Promise<void> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: Number(port) });
  await conn.write(encoder.encode(
    `GET ${path} HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n\r\n`,
  ));
  const head = new Uint8Array(4096);
  await conn.read(head);
  if (reads === "true") void read(conn);
}

/** Notes when each notification has come, by the time that it tells. */
async function read(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (let rest = "";;) {
    const length = await conn.read(buffer).catch(() => null);
    if (length === null) return;
    const now = performance.timeOrigin + performance.now();
    const text = rest + decoder.decode(buffer.subarray(0, length));
    for (const [, at] of text.matchAll(/"at": ([\d.]+)[,}]/g)) times.push(now - Number(at));
    rest = text.slice(text.lastIndexOf("\n\n") + 2);
  }
}

await Promise.all(Array.from({ length: Number(count) }, connected));
console.log("connected");
for await (const _ of Deno.stdin.readable.pipeThrough(new TextLineStream())) {
  times.sort((a, b) => a - b);
  console.log(JSON.stringify({
    events: times.length,
    p50: quantile(times, 0.5),
    p99: quantile(times, 0.99),
  }));
  times = [];
}
