/**
 * Streams that can also be written, as the conformance suite of the protocol needs: PUT makes one, POST
 * publishes, DELETE forgets it. Hark itself only reads over HTTP.
 *
 * @module
 */

import { type Database, notifyMany } from "../../../mod.ts";
import type { StreamsOptions } from "../../../src/streams/mod.ts";
import { serve, type Served } from "./serve.ts";

interface Written {
  readonly channel: string;
  readonly contentType: string;
}

const isJson = (contentType: string) => /^application\/json\b/i.test(contentType);
const bare = (contentType: string) => contentType.split(";")[0]!.trim().toLowerCase();

/** The payloads that a body is: of JSON the elements of the array, else one text. */
async function payloadsIn(request: Request, contentType: string): Promise<unknown[]> {
  if (isJson(contentType)) {
    const text = await request.text();
    if (text === "") return [];
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value : [value];
  }
  const bytes = new Uint8Array(await request.arrayBuffer());
  if (bytes.length === 0) return [];
  if (/^text\//i.test(contentType)) return [new TextDecoder().decode(bytes)];
  return [bytes.toBase64()];
}

/** Serves streams that can be written. */
export function serveWritable(
  db: Database,
  options: Partial<StreamsOptions> = {},
  port?: number,
): Served {
  const all = new Map<string, Written>();
  const route = (request: Request) => {
    const found = all.get(new URL(request.url).pathname);
    return found === undefined ? null : { channels: found.channel, contentType: found.contentType };
  };
  const headers = { "x-content-type-options": "nosniff", "access-control-allow-origin": "*" };
  const refused = (status: number) => new Response(null, { status, headers });

  async function append(
    handle: (request: Request) => Promise<Response>,
    request: Request,
    found: Written,
    status: number,
    payloads: unknown[],
  ): Promise<Response> {
    await notifyMany(db, payloads.map((payload) => ({ channel: found.channel, payload })));
    const tail = await handle(new Request(request.url, { method: "HEAD" }));
    return new Response(null, {
      status,
      headers: {
        ...headers,
        "stream-next-offset": tail.headers.get("stream-next-offset")!,
        "content-type": found.contentType,
        ...(status === 201 ? { location: request.url } : {}),
      },
    });
  }

  return serve(db, { route, cors: "*", ...options }, port, async (handle, request) => {
    const { pathname } = new URL(request.url);
    const found = all.get(pathname);
    const contentType = request.headers.get("content-type");
    try {
      switch (request.method) {
        case "PUT": {
          const type = contentType || "application/octet-stream";
          if (found !== undefined) {
            const same = bare(found.contentType) === bare(type);
            return same ? await append(handle, request, found, 200, []) : refused(409);
          }
          const stream = { channel: crypto.randomUUID(), contentType: type };
          const payloads = await payloadsIn(request, type);
          all.set(pathname, stream);
          return await append(handle, request, stream, 201, payloads);
        }
        case "POST": {
          if (found === undefined) return refused(404);
          if (contentType === null) return refused(400);
          if (bare(found.contentType) !== bare(contentType)) return refused(409);
          const payloads = await payloadsIn(request, found.contentType);
          if (payloads.length === 0) return refused(400);
          return await append(handle, request, found, 204, payloads);
        }
        case "DELETE":
          return refused(all.delete(pathname) ? 204 : 404);
        default:
          return await handle(request);
      }
    } catch (error) {
      if (error instanceof SyntaxError) return refused(400);
      throw error;
    }
  });
}
