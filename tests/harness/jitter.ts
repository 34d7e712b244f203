/**
 * Makes the timings of a test program unlike those of its last run. So a test fails soon that relies on an
 * order which nothing promises. HARK_TEST_JITTER says by how much, in ms. Without it nothing is changed.
 *
 * Late at random are what sockets of `node:net` receive and send, `fetch` and its answers, and timers. Each
 * connection keeps its order. Most things are not late at all, few are late by much. Now and then the whole
 * program stands still. Programs that a test starts are not changed.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { Socket } from "node:net";
import { Readable } from "node:stream";

const { state } = Deno.permissions.querySync({ name: "env", variable: "HARK_TEST_JITTER" });
const most = state === "granted" ? Number(Deno.env.get("HARK_TEST_JITTER")) || 0 : 0;

/** Kept: some tests replace it. */
const now = performance.now.bind(performance);

/** How often what is due is looked for, in ms. */
const TICK = 3;

/** How late the next thing is, in ms: 0 three times out of four, `most` hardly ever. */
function lateness(): number {
  const chance = Math.random() * 4 - 3;
  return chance < 0 ? 0 : most * chance ** 4;
}

/** What is late. */
interface Held {
  readonly due: number;
  readonly run: () => void;
}

let held: Held[] = [];
/** One for all, made before any test begins: Deno reports timers that a test leaves. */
let clock: ReturnType<typeof setInterval> | undefined;

/** Keeps something for later. The program does not end before. */
function hold(one: Held): void {
  held.push(one);
  clock?.ref();
}

/** Runs what is due. About once a second, it stands still. */
function tick(): void {
  const time = now();
  const due = held.filter((one) => one.due <= time);
  if (due.length > 0) held = held.filter((one) => one.due > time);
  for (const { run } of due) run();
  if (held.length === 0) clock?.unref();
  if (Math.random() < TICK / 1000) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, lateness());
  }
}

/** One direction of a connection. What passes keeps its order. */
class Line {
  /** By how much all of it is late: one line in eight is slow. */
  readonly #always = Math.random() < 1 / 8 ? most * Math.random() / 8 : 0;
  #lastDue = 0;
  #held = 0;

  pass(run: () => void): void {
    const time = now();
    this.#lastDue = Math.max(this.#lastDue, time + this.#always + lateness());
    if (this.#lastDue <= time && this.#held === 0) return run();
    this.#held++;
    const later = () => {
      this.#held--;
      run();
    };
    hold({ due: this.#lastDue, run: later });
  }
}

function lineOf(lines: WeakMap<Socket, Line>, socket: Socket): Line {
  const line = lines.get(socket) ?? new Line();
  lines.set(socket, line);
  return line;
}

function delaySockets(): void {
  const sending = new WeakMap<Socket, Line>();
  const receiving = new WeakMap<Socket, Line>();
  const socket = Socket.prototype as unknown as {
    push(this: Socket, ...given: unknown[]): boolean;
    _writeGeneric(this: Socket, ...given: unknown[]): void;
  };
  const push = Readable.prototype.push as typeof socket.push;
  const write = socket._writeGeneric;
  socket.push = function (chunk, ...given) {
    // A copy: Deno reads the next one into the same memory.
    const kept = chunk instanceof Uint8Array ? Buffer.from(chunk) : chunk;
    lineOf(receiving, this).pass(() => void (this.destroyed || push.call(this, kept, ...given)));
    return true;
  };
  socket._writeGeneric = function (...given) {
    lineOf(sending, this).pass(() => write.apply(this, given));
  };
}

function delayFetch(): void {
  const real = globalThis.fetch;
  const late = () => new Promise<void>((resolve) => new Line().pass(resolve));
  globalThis.fetch = async (...given) => {
    await late();
    try {
      return await real(...given);
    } finally {
      await late();
    }
  };
}

function delayTimers(): void {
  const real = globalThis.setTimeout;
  // Packages give texts, too.
  const later = (run: () => void, ms: unknown = 0, ...given: []) =>
    real(run, Number(ms) + lateness() / 4, ...given);
  Object.assign(globalThis, { setTimeout: later });
}

if (most > 0) {
  clock = setInterval(tick, TICK);
  delaySockets();
  delayFetch();
  delayTimers();
}
