/**
 * A worker of `hark listen --workers`: a thread with its own modules, connections and consumers.
 * `threads.ts` starts it.
 *
 * @module
 */

import { connect } from "../../database/database.ts";
import { isPassing } from "../../database/translate.ts";
import type { HarkError } from "../../errors.ts";
import { sentenceOf } from "../exit_codes.ts";
import { deferredDatabase } from "./deferred_database.ts";
import { configureLogs } from "../print/log_lines.ts";
import type { Failure, Hire, Order, Report } from "./thread_messages.ts";
import { turnOnTelemetry } from "./telemetry.ts";
import { consumersOf } from "./selected.ts";
import { runAll } from "./run_all.ts";

/** Runs consumers as ordered until they end. */
async function work({ name, work, port }: Hire): Promise<void> {
  const say = (report: Report) => port.postMessage(report);
  const leave = tellOfExit((call) => say({ kind: "exit", call }));
  const stop = new AbortController();
  const url = Promise.withResolvers<string | undefined>();
  stop.signal.addEventListener("abort", () => url.resolve(undefined));
  port.addEventListener("message", ({ data }: MessageEvent<Order>) => {
    if (data.kind === "serve") url.resolve(data.url);
    else if (data.kind === "stop") stop.abort();
    else if (data.kind === "measure") void measure(data.number, data.reports);
    else say({ kind: "pong" });
  });
  const meter = work.measures ? new (await import("../../metrics/monitor.ts")).Meter() : undefined;
  const measure = async (number: number, reports: boolean) => {
    if (meter === undefined) return;
    say({ kind: "measured", number, measurements: await meter.read(reports) });
  };
  port.start(); // from here on, orders find all that they need
  const failed = (error: unknown, what = "", removed?: string) => {
    say({ kind: "failed", failure: failureOf(error, what), removed });
  };
  try {
    await configureLogs(work, "info", name);
    await turnOnTelemetry();
    const deferred = deferredDatabase();
    const found = await consumersOf(work, deferred.db);
    say({ kind: "found", consumers: found.map(({ id, channels }) => ({ id, channels })) });
    const given = await url.promise;
    if (given !== undefined && !stop.signal.aborted) {
      await using db = await connect(given, {
        applicationName: `hark listen ${name}`,
        maxReconnectDelay: work.maxReconnectDelay,
        ...work.noListen ? { listen: false } : {},
      });
      deferred.become(db);
      await runAll(
        found,
        stop.signal,
        (id, error, goesOn) => failed(error, `consumer "${id}" ended: `, goesOn ? id : undefined),
      );
    }
  } catch (error) {
    failed(error);
  }
  say({ kind: "ended" });
  leave(); // timers and sockets of a module would keep the thread alive
}

/**
 * Reports a call of Deno.exit, process.exit or close before it happens. In a thread each ends only
 * that thread, and in Deno 2.9 no event and no exit code follow.
 *
 * @returns ends the thread without a report.
 */
function tellOfExit(tell: (call: string) => void): () => void {
  const exit = Deno.exit;
  const close = self.close.bind(self);
  Object.assign(Deno, {
    exit(code: number = Deno.exitCode): never {
      tell(`Deno.exit(${code})`);
      return exit(code);
    },
  });
  Object.assign(self, {
    close() {
      tell("close()");
      close();
    },
  });
  return close;
}

/** An error as it can be sent to another thread, which objects of a class cannot. */
function failureOf(error: unknown, what: string): Failure {
  // By name: a module of consumers may have imported another copy of this package.
  const own = error instanceof Error && error.name === "HarkError" ? error as HarkError : undefined;
  return {
    code: own?.code,
    sentence: `${what}${sentenceOf(error)}`,
    passing: own === undefined || isPassing(own),
  };
}

self.addEventListener(
  "message",
  (event) => void work((event as MessageEvent<Hire>).data),
  { once: true },
);
