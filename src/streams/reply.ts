/**
 * Responses, and their headers.
 *
 * @module
 */

import type { StreamsValues } from "./options.ts";

/** When the numbers of cursors begin, and how long each lasts: as the protocol has it. */
const epoch = Date.UTC(2024, 9, 9);
const interval = 20_000;

/**
 * The cursor of a live response. Caches on the way take requests with the same one for the same. It
 * is always greater than the client's last one.
 */
export function cursorAfter(given: string | null): string {
  const now = Math.floor((Date.now() - epoch) / interval);
  const last = given !== null && /^\d{1,15}$/.test(given) ? Number(given) : -1;
  return String(last < now ? now : last + 1 + Math.floor(Math.random() * 180));
}

/** Makes the responses of one request. */
export class Reply {
  readonly #headers: Readonly<Record<string, string>>;

  constructor(request: Request, { cors, cache }: Pick<StreamsValues, "cors" | "cache">) {
    const origin = request.headers.get("origin");
    const headers: Record<string, string> = {
      "x-content-type-options": "nosniff",
      "cross-origin-resource-policy": cors === undefined ? "same-origin" : "cross-origin",
      "cache-control": "no-store",
    };
    if (cors === "*") headers["access-control-allow-origin"] = "*";
    else if (cors !== undefined) {
      if (origin !== null && cors.includes(origin)) {
        headers["access-control-allow-origin"] = origin;
        headers["access-control-allow-credentials"] = "true";
      }
    }
    if (headers["access-control-allow-origin"] !== undefined) {
      headers["access-control-expose-headers"] =
        "stream-next-offset, stream-cursor, stream-up-to-date, stream-sse-data-encoding, etag";
    }
    const varies = [
      ...cors === undefined || cors === "*" ? [] : ["origin"],
      // Another user of the same browser must not be given what it has kept for the one before.
      ...cache === "private" ? ["authorization", "cookie"] : [],
    ];
    if (varies.length > 0) headers.vary = varies.join(", ");
    this.#headers = headers;
  }

  /** A response. */
  of(
    status: number,
    body: BodyInit | null,
    headers: Readonly<Record<string, string | undefined>> = {},
  ): Response {
    const all = new Headers(this.#headers);
    for (const [name, value] of Object.entries(headers)) {
      if (value !== undefined) all.set(name, value);
    }
    return new Response(body, { status, headers: all });
  }

  /** The answer to a browser that asks whether a page of another origin may read. */
  preflight(): Response {
    return this.of(204, null, {
      "access-control-allow-methods": "GET, HEAD, OPTIONS",
      "access-control-allow-headers": "authorization, content-type, if-none-match, last-event-id",
      "access-control-max-age": "600",
    });
  }

  /** What went wrong, and what to do. */
  error(
    status: number,
    code: string,
    message: string,
    remedy: string,
    headers: Readonly<Record<string, string>> = {},
  ): Response {
    return this.of(status, JSON.stringify({ error: { code, message, remedy } }), {
      "content-type": "application/json",
      ...headers,
    });
  }
}
