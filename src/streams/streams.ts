/**
 * From a request to a stream.
 *
 * @module
 */

import { Joined } from "../aborted.ts";
import { connectionsOf, type Database } from "../database/database.ts";
import { HarkError } from "../errors.ts";
import { count, seam } from "../observe/seam.ts";
import { show } from "../show.ts";
import { Access } from "./access.ts";
import { type Batch, Cursor, readOnce, type Start } from "./cursor.ts";
import { events, spread } from "./events.ts";
import { Media } from "./media.ts";
import {
  type CheckedRoute,
  type StreamRoute,
  type StreamsOptions,
  streamsValues,
} from "./options.ts";
import { cursorAfter, Reply } from "./reply.ts";
import { busy, failed, failure, isPlain, missed, startOf } from "./request.ts";
import { Source } from "./source.ts";

/**
 * Streams of channels for browsers and other clients, as a handler of requests. A client that was
 * away goes on where it stopped, and loses nothing.
 *
 * - `new EventSource(url)`: one event for each notification. Its id is a position, which the browser
 *   sends when it connects again.
 * - The read side of the Durable Streams protocol: `?offset=-1`, `?offset=now` or a position, with
 *   `live=sse` or `live=long-poll`, and `HEAD`. Offsets are positions.
 *
 * All clients of the same channels share one reader. A client that is slow or was away reads from the
 * log by itself, and costs the others nothing.
 *
 * @param db What `connect` returns. Its role needs `hark.grant_read`.
 * @throws {HarkError} `BAD_OPTION` or `BAD_CHANNEL`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { streams } from "@hark/postgres/streams";
 *
 * const db = await connect(Deno.env.get("DATABASE_URL"));
 * Deno.serve(streams(db, {
 *   channels: "orders",
 *   authorize: (request) => request.headers.get("x-user") !== null,
 * }));
 * ```
 */
export function streams<const Given extends StreamRoute["channels"]>(
  db: Database,
  options: StreamsOptions<Given>,
): (request: Request) => Promise<Response> {
  const values = streamsValues(options as StreamsOptions);
  const connections = connectionsOf(db);
  if (connections === undefined) {
    throw new HarkError("BAD_OPTION", `db is ${show(db)}`, {
      remedy: "Give what connect(url) returns: streams(await connect(url), …).",
    });
  }
  const { pollInterval, buffer: bytes } = values;
  const access = new Access(values);
  const source = new Source(db, connections, { pollInterval, bytes });
  const closing = new AbortController();
  let clients = 0;
  const observed = {
    get clients() {
      return clients;
    },
    get readers() {
      return source.readers;
    },
  };
  const stop = async () => {
    closing.abort();
    seam.streams.delete(observed);
    await source.close();
  };
  const forget = connections.beforeClose(stop);
  values.signal?.addEventListener("abort", () => {
    void stop().finally(forget);
  }, { once: true });
  if (values.signal?.aborted) closing.abort();
  else seam.streams.add(observed);

  return async (request) => {
    const reply = new Reply(request, values);
    if (request.method === "OPTIONS" && values.cors !== undefined) return reply.preflight();
    if (request.method !== "GET" && request.method !== "HEAD") {
      return reply.error(
        405,
        "BAD_METHOD",
        `streams cannot be written with ${request.method}`,
        "Read with GET or HEAD. Publish with notify.",
        { allow: "GET, HEAD" },
      );
    }
    const plain = isPlain(request, new URL(request.url).searchParams);
    let route: CheckedRoute | Response;
    try {
      route = await access.of(request, reply);
    } catch (error) {
      return failed(reply, plain, error);
    }
    if (route instanceof Response) return route;
    try {
      return await answer(request, reply, route);
    } catch (error) {
      return failure(reply, plain, error);
    }
  };

  async function answer(request: Request, reply: Reply, route: CheckedRoute): Promise<Response> {
    const media = new Media(route, values.message);
    const query = new URL(request.url).searchParams;
    const plain = isPlain(request, query);
    if (closing.signal.aborted) return busy(reply, plain, "this server is about to end");
    if (request.method === "HEAD") {
      const { position } = await readOnce(source, route.names, "now", closing.signal);
      return reply.of(200, null, {
        "content-type": media.contentType,
        "stream-next-offset": position,
      });
    }
    const live = query.get("live");
    const start = startOf(request, query, plain, live !== null);
    if (start instanceof HarkError) return failure(reply, plain, start);
    if (live !== null && live !== "sse" && live !== "long-poll") {
      return failure(
        reply,
        plain,
        new HarkError("BAD_OPTION", `live is ${show(live)}`, { remedy: "Give sse or long-poll." }),
      );
    }
    // Not the request's own signal: Deno says of one that is looked at that it is about to change.
    const { signal } = closing;
    if (live === null && !plain) {
      return await page(request, reply, media, start, await read(route, start, signal));
    }
    if (clients >= values.maxClients) return busy(reply, plain, "too many clients are connected");
    clients++;
    let gone = false;
    const leave = () => {
      if (!gone) clients--;
      gone = true;
    };
    try {
      if (live === "long-poll") return await longPoll(request, reply, route, media, start, signal);
      // Ends what waits for a client that has gone.
      const over = new Joined(signal);
      const end = () => {
        over.abort();
        over[Symbol.dispose]();
        leave();
      };
      const cursor = await Cursor.open(source, route.names, start, over.signal).catch((error) => {
        end();
        throw error;
      });
      if (cursor.gap !== undefined && !plain) {
        cursor.close();
        end();
        return missed(reply, cursor.gap);
      }
      const body = events({
        cursor,
        media,
        plain,
        heartbeat: values.heartbeat,
        retry: values.retry,
        lifetime: spread(values.lifetime),
        given: query.get("cursor"),
        signal: over.signal,
        ended: () => {
          end(); // first, so that the cursor waits no more
          cursor.close();
        },
      });
      return reply.of(200, body, {
        "content-type": "text/event-stream",
        // Proxies and compression would hold events back.
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "stream-sse-data-encoding": media.isBinary ? "base64" : undefined,
      });
    } catch (error) {
      leave();
      throw error;
    } finally {
      if (live === "long-poll") leave();
    }
  }

  /** Reads a page: from the edge if it is kept there, else from the log. */
  async function read(route: CheckedRoute, start: Start, signal: AbortSignal): Promise<Batch> {
    const edge = source.edgeIfOpen(route.names);
    if (edge !== undefined && typeof start === "object") {
      try {
        await edge.fresh(signal);
      } catch (error) {
        if (edge.reason === undefined || signal.aborted) throw error;
        // It has just ended, as its last client left a while ago.
        return await readOnce(source, route.names, start, signal);
      }
      const next = edge.behind(start.position);
      const steps = next === undefined ? undefined : edge.from(next, 1000);
      if (steps !== undefined) {
        return {
          items: steps.filter(({ row }) => row !== undefined),
          position: steps.at(-1)?.position ?? start.position,
          upToDate: next! + steps.length === edge.end && edge.settled,
          gap: undefined,
        };
      }
    }
    return await readOnce(source, route.names, start, signal);
  }

  async function longPoll(
    request: Request,
    reply: Reply,
    route: CheckedRoute,
    media: Media,
    start: Start,
    signal: AbortSignal,
  ): Promise<Response> {
    const cursor = await Cursor.open(source, route.names, start, signal);
    try {
      const until = performance.now() + values.longPoll;
      for (;;) {
        const batch = await cursor.next(until);
        const gap = cursor.gap ?? batch?.gap;
        if (gap !== undefined) return missed(reply, gap);
        const live = {
          "stream-cursor": cursorAfter(new URL(request.url).searchParams.get("cursor")),
        };
        if (batch !== undefined && (await media.chosen(batch.items)).length > 0) {
          return await page(request, reply, media, start, batch, live);
        }
        if (batch !== undefined && performance.now() < until) continue;
        const facts = { ...live, "stream-next-offset": cursor.position };
        if (cursor.upToDate) return reply.of(204, null, { ...facts, "stream-up-to-date": "true" });
        // It is behind, and was given nothing of what it has read. It goes on from there.
        return reply.of(200, media.body([]), { ...facts, "content-type": media.contentType });
      }
    } finally {
      cursor.close();
    }
  }

  async function page(
    request: Request,
    reply: Reply,
    media: Media,
    start: Start,
    batch: Batch,
    more: Readonly<Record<string, string>> = {},
  ): Promise<Response> {
    if (batch.gap !== undefined) return missed(reply, batch.gap);
    const from = typeof start === "object" ? start.position : "-1";
    const etag = start === "now" ? undefined : `"${from}:${batch.position}"`;
    // One that is not complete yet is asked for again, and most often is the same.
    const kept = batch.upToDate ? "no-cache" : "max-age=60, stale-while-revalidate=300";
    const headers = {
      ...more,
      etag,
      "content-type": media.contentType,
      "cache-control": start === "now" || values.cache === "no-store"
        ? "no-store"
        : `${values.cache}, ${kept}`,
      "stream-next-offset": batch.position,
      "stream-up-to-date": batch.upToDate ? "true" : undefined,
    };
    const known = request.headers.get("if-none-match")?.split(/\s*,\s*/)
      .map((tag) => tag.replace(/^W\//, ""));
    if (etag !== undefined && known?.includes(etag)) return reply.of(304, null, headers);
    const items = await media.chosen(batch.items);
    count("hark.stream.sent", items.length);
    return reply.of(200, media.body(items), headers);
  }
}
