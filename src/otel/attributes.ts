/**
 * The attributes of spans and measurements, by the names of OpenTelemetry's conventions for messaging
 * (https://opentelemetry.io/docs/specs/semconv/messaging/, in development).
 *
 * @module
 */

import { type Place, placed, type Queryable } from "../database/queryable.ts";
import { placeOf } from "../database/url.ts";
import type { About } from "../observe/seam.ts";

/** The name under which OpenTelemetry knows this package. */
export const scope = "@hark/postgres";

/** Where a driver says it leads. */
interface Driver {
  readonly [placed]?: Place;
  readonly options?: Driver;
  readonly host?: unknown;
  readonly port?: unknown;
  readonly database?: unknown;
  readonly connectionString?: unknown;
}

/** The place that a driver names: itself, or in the options of a pool. */
function placeIn({ options, connectionString, host, port, database }: Driver): Place {
  if (host === undefined && options !== undefined) return placeIn(options);
  if (typeof connectionString === "string" && URL.canParse(connectionString)) {
    return placeOf(connectionString);
  }
  return {
    address: typeof host === "string" ? host : undefined,
    port: typeof port === "number" ? port : undefined,
    database: typeof database === "string" ? database : undefined,
  };
}

const known = new WeakMap<object, About>();

/** The database that a driver leads to, as far as it says so: Hark's own, `pg.Client` and `pg.Pool`. */
export function databaseOf(db: Queryable): About {
  let about = known.get(db);
  if (about === undefined) {
    const place = (db as Driver)[placed] ?? placeIn(db as Driver);
    about = {
      "messaging.system": "hark",
      ...(place.address === undefined ? {} : { "server.address": place.address }),
      ...(place.port === undefined ? {} : { "server.port": place.port }),
      ...(place.database === undefined ? {} : { "db.namespace": place.database }),
    };
    known.set(db, about);
  }
  return about;
}
