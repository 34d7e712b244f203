/**
 * The standby from which a program reads, beside the primary.
 *
 * @module
 */

import { bad } from "../check.ts";
import { durationMs, longestTimer } from "../duration.ts";
import { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import type { ConnectOptions } from "./connect_options.ts";
import { Connections } from "./connections.ts";
import type { Queryable } from "./queryable.ts";
import { refusedBy } from "./refused.ts";
import { translated } from "./translate.ts";
import { shownUrl, urlIn } from "./url.ts";

const logger = getLogger(["hark", "replica"]);

/** The connections to the replica, and how often its readers have marks cut on the primary. */
export interface ReplicaConnections {
  readonly connections: Connections;
  /** Where it is, without secrets. */
  readonly shown: string;
  /** The least time between two marks, in milliseconds. */
  readonly interval: number;
}

/** Opens what the options name as the replica. Does not connect yet. @throws {HarkError} `BAD_OPTION`. */
export function openReplica(options: ConnectOptions): ReplicaConnections | undefined {
  const { replica, replicaInterval, ...rest } = options;
  const interval = durationMs("replicaInterval", replicaInterval, 1000, {
    least: 20,
    most: longestTimer,
  });
  if (replica === undefined || replica === "") return undefined;
  if (typeof replica !== "string") {
    bad(
      "replica",
      replica,
      "Give the URL of a standby, such as postgres://user@host:port/database.",
    );
  }
  const url = urlIn("replica", replica);
  // A standby cannot LISTEN.
  return {
    connections: new Connections(url, { ...rest, listen: false }),
    shown: shownUrl(url),
    interval,
  };
}

const identitySql =
  `select c.system_identifier::text as server, pg_catalog.current_database() as database,
  pg_catalog.pg_is_in_recovery() as standby
from pg_catalog.pg_control_system() c`;

/**
 * Checks that both servers answer, and that one is a copy of the other. Positions of another server
 * would mean nothing.
 *
 * @throws {HarkError} `UNREACHABLE`, `TIMEOUT`; `BAD_OPTION` if they are two servers.
 */
export async function requireReplica(
  primary: Queryable,
  { connections, shown }: ReplicaConnections,
): Promise<void> {
  const { rows: [here] } = await primary.query(identitySql);
  const { rows: [there] } = await translated(() => connections.query((on) => on.query(identitySql)))
    .catch((error) => {
      throw refusedBy(`the replica ${shown}`, error);
    });
  if (here.server !== there.server || here.database !== there.database) {
    throw new HarkError(
      "BAD_OPTION",
      `the replica ${shown} is no standby of this database: it has another ${
        here.server !== there.server ? "system identifier" : "name"
      }`,
      { remedy: "Give the URL of a physical standby. A logical replica cannot be read." },
    );
  }
  // Not refused: a standby that was promoted is to be read on.
  if (there.standby !== true) {
    logger.warn(
      "The option replica gives {replica}, which is no standby: reading there is work for a primary. " +
        "Give the address of a standby. If it is a standby that was promoted, reading goes on there",
      { replica: shown },
    );
  }
}
