/**
 * The dashboard: {@linkcode dashboard} makes a handler of requests that shows what consumers do, and
 * why something waits, and lets operators act.
 *
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { dashboard } from "@hark/postgres/dashboard";
 *
 * const pages = dashboard(await connect(Deno.env.get("DATABASE_URL")), {
 *   authorize: (request) =>
 *     request.headers.get("x-user") === "ada" ? { name: "ada", role: "operate" } : null,
 * });
 * Deno.serve(pages);
 * ```
 *
 * @module
 */

export { dashboard } from "./dashboard.ts";
export type { DashboardOptions, ShownNotification, Visitor } from "./options.ts";
