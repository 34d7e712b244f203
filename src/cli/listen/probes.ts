/**
 * `hark listen --metrics`: answers `/metrics`, `/livez` and `/readyz` while consumers run.
 *
 * @module
 */

import type { Measurements, Monitor, Others } from "../../metrics/monitor.ts";
import type { Series } from "../../metrics/registry.ts";
import { kind, refuse } from "../args/options.ts";
import { printError } from "../print/output.ts";

/** What has threads. */
interface Threaded {
  /** Asks the threads that run; `reports` as for `Meter.read`. */
  measurements(reports: boolean): Promise<readonly Measurements[]>;
  /** The sums of its threads that have ended. */
  ended: readonly Series[];
}

/** Where to answer: a port of this machine only, or a host and a port. */
export const address = kind("PORT", "9464", (input) => {
  const { host, port } = partsOf(input);
  if (host === "" || !(port <= 65_535)) {
    throw new Error(
      `PORT is ${JSON.stringify(input)}. Give a port such as 9464, or a host and a port such as ` +
        "0.0.0.0:9464.",
    );
  }
  return input;
});

function partsOf(input: string): { readonly host: string; readonly port: number } {
  const [, host, port] = /^(?:(.*):)?(\d{1,5})$/.exec(input) ?? [];
  return { host: (host ?? "127.0.0.1").replaceAll(/^\[|\]$/g, ""), port: Number(port) };
}

/** The server that answers. */
export class Probes implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #monitor: Monitor;
  #threads: Threaded | undefined;

  private constructor(at: string, monitorOf: (others: Others) => Monitor) {
    const { host: hostname, port } = partsOf(at);
    this.#monitor = monitorOf(async (reports) => await this.#threads?.measurements(reports) ?? []);
    try {
      this.#server = Deno.serve({ hostname, port, onListen: () => {} }, this.#monitor);
    } catch (error) {
      this.#monitor[Symbol.dispose]();
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
      throw refuse(`--metrics ${at}: another program uses this port`, "Give another port.");
    }
  }

  /** Begins to answer, if an address is given. */
  static async start(at: string | undefined): Promise<Probes | undefined> {
    if (at === undefined) return undefined;
    const [{ monitorOf }, { settingsOf }] = await Promise.all([
      import("../../metrics/monitor.ts"),
      import("../../metrics/options.ts"),
    ]);
    return new Probes(at, (others) => monitorOf(settingsOf({}), others));
  }

  /** Prints where it answers. */
  async tell(): Promise<void> {
    const { addr } = this.#server;
    const shown = addr.hostname.includes(":") ? `[${addr.hostname}]` : addr.hostname;
    await printError(`metrics at http://${shown}:${addr.port}/metrics, with /livez and /readyz`);
  }

  /** From now on it also asks these threads. What those before them have counted still counts. */
  follow(threads: Threaded): void {
    if (this.#threads !== undefined) threads.ended = this.#threads.ended;
    this.#threads = threads;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#monitor[Symbol.dispose]();
    await this.#server.shutdown();
  }
}
