/**
 * The options of a connection to a database.
 *
 * @module
 */

import type { Duration } from "../duration.ts";

/** Options of {@linkcode connect}. Each {@linkcode Duration} is at most 2,000,000,000 ms (23 days). */
export interface ConnectOptions {
  /** The maximum number of connections in the pool for queries, 1 to 1,000. @default {4} */
  readonly poolSize?: number;
  /** The timeout for connecting. @default {5000} */
  readonly connectTimeout?: Duration;
  /** The timeout for one query of the pool. @default {30000} */
  readonly queryTimeout?: Duration;
  /**
   * The timeout for one query of a reader, such as reading a page or acknowledging. It is shorter
   * than `queryTimeout` because it decides how soon a silent connection is detected. A page that
   * takes longer is read in smaller parts. One notification that takes longer gets more time, up to
   * 64 times this.
   * @default {8000}
   */
  readonly readerTimeout?: Duration;
  /**
   * Whether to LISTEN. If false, readers only poll. Set it to false behind a transaction pooler,
   * where LISTEN receives nothing. The URL can say so, too: `?listen=off`.
   *
   * Or the URL to LISTEN at: the direct address of the database, if the other one is a pooler's. All
   * else then goes through the pooler, and consumers are woken at once. Empty is as undefined.
   * @default {true, or what the URL says}
   */
  readonly listen?: boolean | string | undefined;
  /** The interval between heartbeats of the LISTEN connection, at least 10. @default {5000} */
  readonly heartbeat?: Duration;
  /** The timeout for the answer to a heartbeat, at least 10. @default {4000} */
  readonly heartbeatTimeout?: Duration;
  /** The maximum delay between two attempts to reconnect, at least 10. @default {5000} */
  readonly maxReconnectDelay?: Duration;
  /** The `application_name` of the connections, as in `pg_stat_activity`. @default {"hark"} */
  readonly applicationName?: string;
  /**
   * The URL of a standby of the same server, for reading. `subscribe` and `streams` then read there.
   * All else stays on the primary: consumers, publishing and queries. Undefined or empty for none.
   * @default {none}
   */
  readonly replica?: string | undefined;
  /**
   * The interval between two marks that readers of the replica have cut on the primary, at least 20.
   * While other readers cut marks there, or if nothing is published, they have none cut. With steady
   * publishing, it is about the longest time until a notification can be read there.
   * @default {1000}
   */
  readonly replicaInterval?: Duration;
}
