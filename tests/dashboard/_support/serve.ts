/**
 * A dashboard to look at.
 *
 * @module
 */

import type { Database } from "../../../mod.ts";
import { dashboard, type DashboardOptions } from "../../../src/dashboard/mod.ts";

/** A dashboard that is served on this machine. */
export interface Served extends AsyncDisposable {
  readonly origin: string;
}

/** Serves a dashboard on a free port. */
export function serve(db: Database, options: DashboardOptions): Served {
  const handler = dashboard(db, { interval: 500, ...options });
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, handler);
  return {
    origin: `http://127.0.0.1:${server.addr.port}`,
    async [Symbol.asyncDispose]() {
      await server.shutdown();
    },
  };
}
