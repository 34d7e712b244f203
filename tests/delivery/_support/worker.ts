/**
 * A worker in a process of its own, to be killed, frozen and cut off. Says `ready`, then `handled
 * <payload>` for each, and what Hark logs as `log <level> <sentence>`.
 *
 *     worker.ts <url> '{"options": {...}, "ledger": "<file>", ...}'
 *
 * @module
 */

import process from "node:process";
import { configureSync } from "@logtape/logtape";
import {
  connect,
  type ConnectOptions,
  Consumer,
  type ConsumerOptions,
  type Database,
  type HandlerContext,
  type HarkError,
  type Notification,
} from "../../../mod.ts";
import { LedgerFile } from "./ledger.ts";

/** What a worker does. All of it is JSON. */
export interface WorkerConfig {
  /** How it connects. */
  readonly connect?: ConnectOptions;
  /** The consumer that it serves; `c` on channel `c` unless they say otherwise. */
  readonly options?: ConsumerOptions;
  /** A file that each handling is appended to, see {@linkcode LedgerFile}. */
  readonly ledger?: string;
  /** A table that each handling is inserted into, within the handler's transaction. */
  readonly table?: string;
  /** A handler takes up to this many milliseconds, at random. */
  readonly work?: number;
  /** A handler takes this many milliseconds, always. */
  readonly pace?: number;
  /** The share of handlings that fail, at random. */
  readonly flaky?: number;
  /** Payloads whose handling fails, each time. */
  readonly fails?: readonly unknown[];
  /** Payloads whose handling fails at the first attempt. */
  readonly failsOnce?: readonly unknown[];
  /** Whether to say each handling. @default {false} */
  readonly say?: boolean;
  /** What happens each time that a payload equals `payload`, after `at` was said. */
  readonly trap?: {
    readonly payload: unknown;
    /**
     * `exit` and `kill` end the process; `hang` waits for ever; `linger` waits for `pace` and goes on;
     * `fail` lingers and throws.
     */
    readonly do: "exit" | "kill" | "hang" | "linger" | "fail";
    readonly pace?: number;
    /** A statement on the handler's transaction before it. */
    readonly sql?: string;
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** What the handler does. */
async function work(config: WorkerConfig, id: string, n: Notification, context: HandlerContext) {
  const { table, work = 0, pace = 0, flaky = 0 } = config;
  if (work > 0) await pause(Math.random() * work);
  if (pace > 0) await pause(pace);
  if (table !== undefined) {
    await context.tx.query(
      `insert into ${table} (consumer, id, key, payload, worker, attempt)
        values ($1, $2, $3, $4, $5, $6)`,
      [id, n.id, n.key, n.payloadText, Deno.pid, n.attempt],
    );
  }
  await trapped(config, n, context);
  const fails = n.attempt === 1 ? [...config.fails ?? [], ...config.failsOnce ?? []] : config.fails;
  if (fails?.includes(n.payload)) throw new Error(`no ${n.payload}`);
  if (Math.random() < flaky) throw new Error("flaky");
}

async function trapped(config: WorkerConfig, n: Notification, context: HandlerContext) {
  const { trap } = config;
  if (trap === undefined || JSON.stringify(n.payload) !== JSON.stringify(trap.payload)) return;
  if (trap.sql !== undefined) await context.tx.query(trap.sql);
  console.log(`at ${JSON.stringify(n.payload)} attempt ${n.attempt}`);
  if (trap.do === "exit") Deno.exit(1);
  if (trap.do === "kill") Deno.kill(Deno.pid, "SIGKILL");
  if (trap.do === "hang") await pause(3_600_000);
  await pause(trap.pace ?? 0);
  console.log(`past ${JSON.stringify(n.payload)} aborted ${context.signal.aborted}`);
  if (trap.do === "fail") throw new Error("trapped");
}

/** Connects, however long the server is away: as a service that is started again and again. */
async function connected(url: string, config: WorkerConfig): Promise<Database> {
  for (;;) {
    try {
      return await connect(url, config.connect);
    } catch (error) {
      if ((error as HarkError).code !== "UNREACHABLE") throw error;
      await pause(100);
    }
  }
}

async function main(url: string, config: WorkerConfig): Promise<void> {
  configureSync({
    sinks: {
      lines: ({ level, message, timestamp }) =>
        console.error(`log ${level} ${message.map(text).join("")} (${clock(timestamp)})`),
    },
    loggers: [
      { category: "hark", sinks: ["lines"], lowestLevel: "info" },
      { category: ["logtape", "meta"], sinks: [], lowestLevel: "error" },
    ],
  });
  await using db = await connected(url, config);
  const ledger = config.ledger === undefined ? undefined : new LedgerFile(config.ledger);
  const id = config.options?.id ?? "c";
  const consumer = new Consumer(db, {
    channels: "c",
    ...config.options,
    id,
    handle: async (n, context) => {
      ledger?.write("began", id, n);
      try {
        await work(config, id, n, context);
      } catch (error) {
        ledger?.write("failed", id, n);
        throw error;
      }
      ledger?.write("ended", id, n);
      if (config.say) {
        console.log(`handled ${n.payloadText} attempt ${n.attempt} at ${Date.now()}`);
      }
    },
  });
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", () => void consumer.stop());
  // What this process holds when it has begun nothing, and what it has held at most: the kernel's own mark where
  // it has risen since (at first it is that of the process that started this one).
  console.log(`ready ${Deno.pid} rss ${Deno.memoryUsage().rss}`);
  const mark = process.resourceUsage().maxRSS;
  let peak = 0;
  const watch = setInterval(() => {
    peak = Math.max(peak, Deno.memoryUsage().rss);
  }, 20);
  for (const began = performance.now();;) {
    try {
      await consumer.run();
      break;
    } catch (error) {
      // So is a start that fails because the server goes away again.
      if ((error as HarkError).code !== "UNREACHABLE" || performance.now() - began > 60_000) {
        throw error;
      }
      await pause(100);
    }
  }
  clearInterval(watch);
  const { maxRSS } = process.resourceUsage();
  console.log(`stopped rss ${maxRSS > mark ? Math.max(peak, maxRSS * 1024) : peak}`);
}

/** Seconds and milliseconds: `07.123`. */
function clock(ms: number): string {
  return new Date(ms).toISOString().slice(17, 23);
}

function text(part: unknown): string {
  return typeof part === "string" ? part : String(part);
}

if (import.meta.main) {
  const [url = "", json = "{}"] = Deno.args;
  await main(url, JSON.parse(json));
  Deno.exit(0);
}
