/**
 * `hark dashboard`: the dashboard, on this machine.
 *
 * @module
 */

import { answer, databaseCommand } from "./args/command.ts";
import { maybe, number, refuse, toggle } from "./args/options.ts";
import { stopping } from "./process/signals.ts";
import { surroundings } from "./process/surroundings.ts";

/** The port unless another is given: free on most machines, and the same each time. */
const usualPort = 4275;

/** `hark dashboard`. */
export const dashboard = databaseCommand({
  name: "dashboard",
  brief: "Show all of it in the browser, live, and act from there.",
  description:
    "Serves pages to this machine only, at http://127.0.0.1:4275, until Ctrl-C. They may do what the " +
    "database's role may do. To let others in, mount the dashboard in a server with a login: see " +
    "dashboard() of @hark/postgres/dashboard.",
  examples: [
    ["hark dashboard", "then open http://127.0.0.1:4275"],
    ["hark dashboard --read-only", "look, and change nothing"],
    ["hark dashboard --port 8080", "on another port"],
  ],
  options: {
    port: maybe(
      "--port",
      number("PORT", { least: 0, most: 65_535 }),
      "The port; 0 for a free one. Default: 4275.",
    ),
    readOnly: toggle("--read-only", "Show pages only, and refuse acts."),
  },
  async run(db, o, json) {
    const { dashboard } = await import("../dashboard/mod.ts");
    const { variable } = surroundings();
    const name = variable("USER") || variable("USERNAME") || "local user";
    using stop = stopping();
    const handler = dashboard(db, {
      readOnly: o.readOnly,
      authorize: () => ({ name, role: "operate" }),
      signal: stop.signal,
    });
    const server = serve(
      o.port ?? usualPort,
      (request) => isLocal(request) ? handler(request) : new Response(foreign, { status: 421 }),
    );
    const { port } = server.addr;
    const url = `http://127.0.0.1:${port}`;
    await answer({ json: { url, port }, text: `The dashboard is at ${url} until Ctrl-C.` }, json);
    await stop.asked;
    await server.shutdown();
  },
});

function serve(port: number, handler: Deno.ServeHandler): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({ port, hostname: "127.0.0.1", onListen: () => {} }, handler);
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw refuse(
      `port ${port} is in use, perhaps by another hark dashboard`,
      "Give another port, such as --port 0 for a free one.",
    );
  }
}

const foreign =
  "This dashboard answers only to 127.0.0.1 and localhost. Open it by one of these names, " +
  "or mount dashboard() of @hark/postgres/dashboard in a server of your own.\n";

/**
 * Whether a request names this machine. A page of another site whose name points here (DNS rebinding)
 * names itself.
 */
function isLocal(request: Request): boolean {
  const named = URL.parse(`http://${request.headers.get("host") ?? ""}`);
  return named !== null && ["127.0.0.1", "localhost"].includes(named.hostname);
}
