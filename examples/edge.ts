/**
 * For functions that start on a request and may end at any time. Publishing is one statement. A
 * scheduled request drains the consumer. There is no LISTEN, and nothing is kept between requests.
 *
 *     DATABASE_URL=postgres://… deno serve -P=example examples/edge.ts
 *     curl -d '{"id":42}' localhost:8000/orders
 *     curl -X POST localhost:8000/drain
 */
import { connect, Consumer, HarkError, migrate, notify } from "@hark/postgres";

/** Answers a request. */
export async function answer(
  request: Request,
  url: string | undefined = Deno.env.get("DATABASE_URL"),
): Promise<Response> {
  const { pathname } = new URL(request.url);
  try {
    await using db = await connect(url, { poolSize: 1 });
    switch (`${request.method} ${pathname}`) {
      case "POST /install":
        return Response.json(await migrate(db));
      case "POST /orders":
        return Response.json({ id: await notify(db, "orders", await request.json()) });
      case "POST /drain": {
        const billed: unknown[] = [];
        const consumer = new Consumer(db, {
          id: "example-edge",
          channels: "orders",
          handle: ({ payload }) => void billed.push(payload),
        });
        const handled = await consumer.drain({ signal: AbortSignal.timeout(20_000) });
        return Response.json({ handled, billed });
      }
    }
    return new Response("not found\n", { status: 404 });
  } catch (error) {
    if (!(error instanceof HarkError)) throw error;
    return Response.json({ code: error.code, message: error.message }, { status: 503 });
  }
}

export default { fetch: (request: Request): Promise<Response> => answer(request) };
