/**
 * Requests to the dashboard, as a browser or an attacker sends them.
 *
 * @module
 */

import type { Database } from "../../../mod.ts";
import { dashboard, type DashboardOptions } from "../../../src/dashboard/mod.ts";

/** A visitor that sends requests. */
export interface Visits {
  /** Gets a page; gives its status and text. */
  get(path: string, headers?: Record<string, string>): Promise<{ status: number; text: string }>;
  /** Sends a form as a page of the dashboard would, with the token of a page. */
  post(
    fields: Record<string, string>,
    headers?: Record<string, string>,
  ): Promise<{ status: number; text: string; location: string | null }>;
  /** The token of a form on a page. */
  token(path?: string): Promise<string>;
  /** The handler itself. */
  readonly handler: (request: Request) => Promise<Response>;
}

/** Visits a dashboard. */
export function visits(db: Database, options: DashboardOptions, base = ""): Visits {
  const handler = dashboard(db, options);
  const at = (path: string) => `http://hark.test${base}${path}`;
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await handler(new Request(at(path), init));
    return { response, status: response.status, text: await response.text() };
  };
  return {
    handler,
    get: (path, headers = {}) => ask(path, { headers }),
    async post(fields, headers = { "sec-fetch-site": "same-origin" }) {
      const { response, status, text } = await ask("/act", {
        method: "POST",
        headers,
        body: new URLSearchParams(fields),
      });
      return { status, text, location: response.headers.get("location") };
    },
    async token(path = "/consumers") {
      const { text } = await ask(path);
      return /name="token" value="([^"]+)"/.exec(text)?.[1] ?? "";
    },
  };
}
