/**
 * The dashboard: {@linkcode dashboard} makes a handler of requests that shows what consumers do, and
 * why something waits, and lets operators act.
 *
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { dashboard } from "@hark/postgres/dashboard";
 *
 * Deno.serve(dashboard(await connect(Deno.env.get("DATABASE_URL"))));
 * ```
 *
 * @module
 */

export { dashboard } from "./dashboard.ts";
export type { DashboardOptions, ShownNotification, Visitor } from "./options.ts";
