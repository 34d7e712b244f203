/**
 * The options of a connection, checked, with their defaults.
 *
 * @module
 */

import { bad, knownOptions, text, wholeNumber } from "../check.ts";
import { durationMs, longestTimer } from "../duration.ts";
import type { ConnectOptions } from "./connect_options.ts";
import type { SessionOptions } from "./session.ts";
import { letsListen, urlIn } from "./url.ts";

/** Options of the listener. Durations are milliseconds. */
export interface ListenerOptions extends SessionOptions {
  /** The interval between heartbeats. */
  readonly heartbeat: number;
  /** The timeout for the answer to a heartbeat, and for the arrival of the self-test. */
  readonly heartbeatTimeout: number;
  /** The maximum delay between two attempts to reconnect. */
  readonly maxReconnectDelay: number;
}

/** The options of a connection. */
export interface CheckedConnect {
  readonly poolSize: number;
  /** The timeout for one query of the pool, in milliseconds. */
  readonly queryTimeout: number;
  /** How readers connect. */
  readonly session: SessionOptions;
  readonly listen: boolean;
  /** How to connect where it LISTENs. */
  readonly listening: ListenerOptions;
}

const timeout = { least: 1, most: longestTimer };
const interval = { least: 10, most: longestTimer };

/** Checks the options. */
export function checkedConnect(url: string, options: ConnectOptions): CheckedConnect {
  knownOptions("connect", options, [
    "poolSize",
    "connectTimeout",
    "queryTimeout",
    "readerTimeout",
    "listen",
    "heartbeat",
    "heartbeatTimeout",
    "maxReconnectDelay",
    "applicationName",
    "replica",
    "replicaInterval",
  ]);
  const session = {
    url,
    connectTimeout: durationMs("connectTimeout", options.connectTimeout, 5000, timeout),
    applicationName: applicationName(options.applicationName),
    queryTimeout: durationMs("readerTimeout", options.readerTimeout, 8000, timeout),
  };
  const listen = options.listen === "" ? undefined : options.listen;
  if (!["boolean", "string", "undefined"].includes(typeof listen)) {
    bad("listen", listen, "Give true, false, or the URL to LISTEN at.");
  }
  return {
    session,
    listen: listen !== false && (listen !== undefined || letsListen(url)),
    listening: {
      ...session,
      url: typeof listen === "string" ? urlIn("listen", listen) : url,
      heartbeat: durationMs("heartbeat", options.heartbeat, 5000, interval),
      heartbeatTimeout: durationMs("heartbeatTimeout", options.heartbeatTimeout, 4000, interval),
      maxReconnectDelay: durationMs("maxReconnectDelay", options.maxReconnectDelay, 5000, interval),
    },
    queryTimeout: durationMs("queryTimeout", options.queryTimeout, 30_000, timeout),
    poolSize: wholeNumber("poolSize", options.poolSize, 4, 1, 1000),
  };
}

function applicationName(value: unknown): string {
  if (value === undefined) return "hark";
  if (typeof value !== "string") bad("applicationName", value, 'Give text, such as "billing".');
  return text("applicationName", value, "BAD_OPTION");
}
