/**
 * Answers `/metrics`, `/livez` and `/readyz`.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { install } from "../observe/install.ts";
import { look } from "./gauges.ts";
import { type Health, healthNow, healthOf, liveness, readiness, type Verdict } from "./health.ts";
import { type MonitorOptions, type Settings, settingsOf } from "./options.ts";
import { Recorder } from "./recorder.ts";
import { Registry, type Series } from "./registry.ts";
import { mediaType, merged, textOf } from "./text.ts";
import { noneYet } from "./zeros.ts";

/** A handler of requests, which measures from when it was made until it is disposed of. */
export interface Monitor extends Disposable {
  (request: Request): Promise<Response>;
}

/** What one process or thread tells. It can be sent to another thread. */
export interface Measurements {
  readonly series: readonly Series[];
  readonly health: Health;
}

/** Gives what threads tell, if a program has any; `reports` as for {@linkcode Meter.read}. */
export type Others = (reports: boolean) => Promise<readonly Measurements[]>;

/** Measures this process, or this thread of it. */
export class Meter implements Disposable {
  readonly #registry = new Registry();
  readonly #end = install(new Recorder(this.#registry));

  /**
   * @param reports Whether it takes part in reporting how databases are.
   * @param observed A database that is reported though no consumer runs on it here.
   */
  async read(reports: boolean, observed?: Queryable): Promise<Measurements> {
    const looked = await look(reports, observed); // first: sums are as they are at the answer
    return { series: merged([this.#registry.all(), noneYet(), looked]), health: healthNow() };
  }

  [Symbol.dispose](): void {
    this.#end();
  }
}

/**
 * Makes a handler that answers these requests, below any path:
 *
 * - `GET /metrics`: the metrics of this process as OpenMetrics text, and metrics of the database if
 *   this process is the one that reports them.
 * - `GET /livez`: 200 while the loop of each consumer turns, else 503.
 * - `GET /readyz`: 200 while each consumer has a connection, and serves partitions or stands by, else
 *   503. Also 503 if no consumer runs.
 *
 * It measures from the call on. The answers name consumers and channels, and no payloads and keys. Serve
 * them to those only that may know these names.
 *
 * @throws {HarkError} `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { monitor } from "@hark/postgres/metrics";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * Deno.serve({ port: 9464 }, monitor());
 * await new Consumer(db, { id: "billing", channels: "orders", handle: () => {} }).run();
 * ```
 */
export function monitor(options: MonitorOptions = {}): Monitor {
  return monitorOf(settingsOf(options), () => Promise.resolve([]));
}

/** A monitor for a program with threads. */
export function monitorOf(settings: Settings, others: Others): Monitor {
  const meter = new Meter();
  const answer = async (request: Request) => {
    const { pathname } = new URL(request.url);
    const what = /\/(metrics|livez|readyz)$/.exec(pathname)?.[1];
    if (what === undefined) {
      return new Response("Ask for /metrics, /livez or /readyz.\n", { status: 404 });
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      return new Response("Only GET and HEAD are answered.\n", {
        status: 405,
        headers: { allow: "GET, HEAD" },
      });
    }
    const isReporting = what === "metrics" && settings.database;
    const parts = [await meter.read(isReporting, settings.observe), ...await others(isReporting)];
    if (what === "metrics") {
      const text = textOf(merged(parts.map(({ series }) => series)));
      return new Response(text, { headers: { "content-type": mediaType, ...fresh } });
    }
    const health = healthOf(parts.map((part) => part.health));
    return probe(
      what === "livez" ? liveness(health, settings.maxSilence) : readiness(health),
      health,
    );
  };
  return Object.assign(answer, { [Symbol.dispose]: () => meter[Symbol.dispose]() });
}

const fresh = { "cache-control": "no-store" };

function probe(verdict: Verdict, health: Health): Response {
  const body = `${JSON.stringify({ ...verdict, ...health }, null, 2)}\n`;
  return new Response(body, {
    status: verdict.ok ? 200 : 503,
    headers: { "content-type": "application/json", ...fresh },
  });
}
