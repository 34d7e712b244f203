/**
 * For functions that start on a request and may end at any time. Publishing is one statement. A
 * scheduler calls /drain, which is limited by time. There is no LISTEN, and nothing is kept between
 * requests.
 *
 *     DATABASE_URL=postgres://… DRAIN_SECRET=… deno run -P=example examples/edge.ts
 *     curl -d '{"id":42}' localhost:8000/orders
 *     curl -X POST -H "Authorization: Bearer $DRAIN_SECRET" localhost:8000/drain
 */
import { connect, Consumer, HarkError, migrate, notify } from "@hark/postgres";
import { drainHandler } from "@hark/postgres/edge";

/** What the function is given from outside. */
export interface Surroundings {
  readonly url: string | undefined;
  /** What the scheduler must show. */
  readonly secret: string;
  /** Aborts when the function is to end. */
  readonly signal: AbortSignal;
}

/** Answers a request. */
export async function answer(
  request: Request,
  { url, secret, signal }: Surroundings,
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
        const billing = new Consumer(db, {
          id: "example-edge",
          channels: "orders",
          // Deno Deploy ends a program 5 s after its SIGINT.
          stopTimeout: "3s",
          async handle({ payload }, context) {
            await bill(payload, context.signal);
          },
        });
        return await drainHandler(billing, { secret, signal, deadline: "20s" })(request);
      }
    }
    return new Response("not found\n", { status: 404 });
  } catch (error) {
    if (!(error instanceof HarkError)) throw error;
    return Response.json({ code: error.code, message: error.message }, { status: 503 });
  }
}

/** Bills an order. This one takes `ms` milliseconds. */
async function bill({ id, ms = 0 }: { id: number; ms?: number }, signal: AbortSignal) {
  console.log(`billing ${id}`);
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
  console.log(`billed ${id}`);
}

if (import.meta.main) {
  const stop = new AbortController();
  const surroundings: Surroundings = {
    url: Deno.env.get("DATABASE_URL"),
    secret: Deno.env.get("DRAIN_SECRET") ?? "",
    signal: stop.signal,
  };
  const server = Deno.serve({
    port: Number(Deno.env.get("PORT") ?? 8000),
    onListen: ({ port }) => console.log(`listening on port ${port}`),
  }, (request) => answer(request, surroundings));
  const end = () => {
    stop.abort();
    void server.shutdown(); // once the requests are answered
    Deno.removeSignalListener("SIGINT", end);
  };
  Deno.addSignalListener("SIGINT", end);
}
