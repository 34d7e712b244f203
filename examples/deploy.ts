/**
 * A whole program for Deno Deploy, which a request starts and which may end at any moment. A publisher
 * wakes it, a scheduler has it drain in case a wake was lost, and browsers follow what it does.
 *
 *     DATABASE_URL=postgres://… DRAIN_SECRET=… HARK_WAKE_SECRET=whsec_… \
 *       deno run -P=example examples/deploy.ts
 *     curl -d '{"id":42}' localhost:8000/orders
 *     hark wake --to http://localhost:8000/wake
 *     curl -X POST -H "Authorization: Bearer $DRAIN_SECRET" localhost:8000/drain
 *     curl -N 'localhost:8000/bills?offset=-1&live=sse'
 */
import { connect, Consumer, type Database, migrate, notify } from "@hark/postgres";
import { drainHandler, wakeHandler } from "@hark/postgres/edge";
import { streams } from "@hark/postgres/streams";

/** What the program is given from outside. */
export interface Surroundings {
  readonly db: Database;
  /** What the scheduler must show. */
  readonly drainSecret: string;
  /** What publishers sign their wakes with. */
  readonly wakeSecret: string;
  /** Aborts when the program is to end. */
  readonly signal: AbortSignal;
}

/** Makes a function that answers requests. */
export function application(
  { db, drainSecret, wakeSecret, signal }: Surroundings,
): (request: Request) => Promise<Response> {
  const billing = new Consumer(db, {
    id: "example-deploy",
    channels: "orders",
    stopTimeout: "3s", // Deno Deploy ends a program 5 s after its SIGINT
    transactional: true,
    // The bill is published if and only if its order counts as handled.
    handle: async ({ payload }, { tx }) => {
      await notify(tx, "bills", { order: payload.id });
    },
  });
  const drain = drainHandler(billing, { secret: drainSecret, signal, deadline: "20s" });
  const wake = wakeHandler(billing, { secret: wakeSecret, signal, deadline: "20s" });
  const bills = streams(db, { channels: "bills", authorize: () => true });
  return async (request) => {
    switch (`${request.method} ${new URL(request.url).pathname}`) {
      case "POST /orders":
        return Response.json({ id: await notify(db, "orders", await request.json()) });
      case "POST /wake":
        return await wake(request);
      case "POST /drain":
        return await drain(request);
      case "GET /bills":
        return await bills(request);
    }
    return new Response("not found\n", { status: 404 });
  };
}

if (import.meta.main) {
  const stop = new AbortController();
  // A pooler passes on no LISTEN. A program that lives for a request needs none.
  await using db = await connect(Deno.env.get("DATABASE_URL"), { poolSize: 2, listen: false });
  await migrate(db); // on Deno Deploy, as the pre-deploy command: hark init
  const server = Deno.serve(
    { port: Number(Deno.env.get("PORT") ?? 8000) },
    application({
      db,
      drainSecret: Deno.env.get("DRAIN_SECRET") ?? "",
      wakeSecret: Deno.env.get("HARK_WAKE_SECRET") ?? "",
      signal: stop.signal,
    }),
  );
  const end = () => {
    stop.abort();
    void server.shutdown(); // once the requests are answered
    Deno.removeSignalListener("SIGINT", end);
  };
  Deno.addSignalListener("SIGINT", end);
  await server.finished;
}
