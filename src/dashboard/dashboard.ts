/**
 * From a request to a response.
 *
 * @module
 */

import { connectionsOf, Database } from "../database/database.ts";
import { translate } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { show } from "../show.ts";
import { perform } from "./acts.ts";
import { readJson } from "./fields.ts";
import { file, filePath } from "./files.ts";
import { Forms, sameOrigin } from "./forgery.ts";
import { page } from "./layout.ts";
import { Lookout } from "./lookout.ts";
import { Messages } from "./messages.ts";
import { checkVisitor, type DashboardOptions, settingsOf, type Visitor } from "./options.ts";
import { reading } from "./reading.ts";
import { failure, headers, plain } from "./respond.ts";
import { screens } from "./screens/screens.ts";
import { stream } from "./stream.ts";
import type { Region, Screen, View } from "./view.ts";

/**
 * The dashboard, as a handler of requests: pages that show what consumers do and why something
 * waits, live, and forms that act. Mount it under any path of your own server.
 *
 * While a page is open, one loop looks at the database every 2 seconds, however many pages there
 * are. Every query has a `statement_timeout`, and none reads without bounds. Reads run in
 * transactions that cannot write. The server checks each act: the visitor's role, the rights of the
 * database role, a signed token, and that the request comes from a page of its own.
 *
 * @param db What `connect` returns. Give it a role with `hark.grant_operate`, or with
 * `hark.grant_consume` for a dashboard that shows less and cannot act.
 * @throws {HarkError} `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { dashboard } from "@hark/postgres/dashboard";
 *
 * const db = await connect(Deno.env.get("DATABASE_URL"));
 * const handler = dashboard(db, {
 *   path: "/admin/hark",
 *   authorize: (request) => {
 *     const name = request.headers.get("x-user");
 *     return name === null ? null : { name, role: name === "ada" ? "operate" : "read" };
 *   },
 * });
 * Deno.serve((request) =>
 *   new URL(request.url).pathname.startsWith("/admin/hark")
 *     ? handler(request)
 *     : new Response("the rest of the site")
 * );
 * ```
 */
export function dashboard(
  db: Database,
  options: DashboardOptions,
): (request: Request) => Promise<Response> {
  const settings = settingsOf(options);
  const lookout = new Lookout(db, settings);
  const forms = new Forms(settings.secret);
  const to = (path: string) => `${settings.path}${path}`;
  const shared = new Shared();
  const messages = new Messages();
  const closing = new AbortController();

  async function visitorOf(request: Request): Promise<Visitor | Response> {
    const answer = await settings.authorize(request);
    if (answer instanceof Response) return answer;
    return answer === null ? plain(403, "You may not look at this.") : checkVisitor(answer);
  }

  /** What a screen is given for a look. */
  async function viewOf(visitor: Visitor, url: URL, look: View["look"]): Promise<View> {
    return {
      db,
      settings,
      look,
      history: lookout.history,
      visitor,
      mayAct: visitor.role === "operate" && !settings.readOnly && look.rights.operate,
      token: await forms.token(visitor.name),
      query: url.searchParams,
      here: `${url.pathname}${url.search}`,
      to,
      reading: (work) => reading(db, settings.statementTimeout, work),
    };
  }

  async function shownPage(visitor: Visitor, url: URL, screen: Screen): Promise<Response> {
    const did = url.searchParams.get("did");
    url.searchParams.delete("did");
    const look = did === null ? await lookout.look() : await lookout.fresh();
    const view = await viewOf(visitor, url, look);
    const message = did === null ? undefined : messages.take(visitor.name, did);
    const regions = await screen.regions(view);
    const text = page(view, screen, regions, (name) => to(filePath(name)), message);
    return new Response(text, { headers: headers("text/html; charset=utf-8") });
  }

  function live(visitor: Visitor, url: URL): Response {
    const at = new URL(url.searchParams.get("page") ?? "/", "http://dashboard");
    const screen = screens[at.pathname];
    if (screen === undefined) return plain(404, "There is no such page.");
    if (closing.signal.aborted) return plain(503, "This server is about to end.");
    if (lookout.listeners >= settings.maxStreams) {
      return plain(503, "Too many pages are open: see the option maxStreams.");
    }
    const body = stream({
      listen: (listener, signal) => lookout.listen(listener, signal),
      signal: closing.signal,
      lifetime: settings.lifetime,
      // Two that look at the same page share what was read for it.
      regions: ({ look }) =>
        shared.at(
          look,
          `${visitor.name}\n${visitor.role}\n${at.href}`,
          async () => await screen.regions(await viewOf(visitor, at, look)),
        ),
    });
    return new Response(body, {
      headers: {
        ...headers("text/event-stream"),
        // Proxies and compression would hold events back.
        "cache-control": "no-store, no-transform",
        "x-accel-buffering": "no",
      },
    });
  }

  async function acted(request: Request, visitor: Visitor): Promise<Response> {
    if (!sameOrigin(request)) return plain(403, "This form was sent by another site.");
    const form = await request.formData().catch(() => undefined);
    if (form === undefined) return plain(400, "This is not a form.");
    const field = (name: string) => {
      const value = form.get(name);
      return typeof value === "string" ? value : "";
    };
    if (!await forms.check(field("token"), visitor.name)) {
      return plain(
        403,
        "This form is too old, or was made for another visitor. Load the page again.",
      );
    }
    if (visitor.role !== "operate" || settings.readOnly) {
      return plain(403, "You may look, and not act.");
    }
    let target = field("back");
    let did: string;
    try {
      const { text, to: next = target } = await perform(db, visitor, form);
      target = next;
      did = messages.keep(visitor.name, { tone: "good", text });
    } catch (error) {
      const { code, message } = translate(error);
      if (code === "NO_PERMISSION") throw error;
      did = messages.keep(visitor.name, { tone: "bad", text: message });
    }
    const back = new URL(target || "/", "http://dashboard");
    // Only to a page of the dashboard itself.
    const path = screens[back.pathname] === undefined ? "/" : back.pathname;
    back.searchParams.set("did", did);
    return new Response(null, {
      status: 303,
      headers: { ...headers("text/plain"), location: to(`${path}${back.search}`) },
    });
  }

  if (!(db instanceof Database) && typeof (db as Partial<Database>)?.transaction !== "function") {
    throw new HarkError("BAD_OPTION", `db is ${show(db)}`, {
      remedy: "Give what connect(url) returns: dashboard(await connect(url)).",
    });
  }
  // A server that ends waits for the responses that are open.
  const forget = connectionsOf(db)?.beforeClose(() => Promise.resolve(closing.abort()));
  const end = () => {
    closing.abort();
    forget?.();
  };
  settings.signal?.addEventListener("abort", end, { once: true });
  if (settings.signal?.aborted) end();
  return async (request) => {
    const url = new URL(request.url);
    if (url.pathname.startsWith(`${settings.path}/`) || url.pathname === settings.path) {
      url.pathname = url.pathname.slice(settings.path.length) || "/";
    }
    const path = url.pathname;
    try {
      readJson(url.searchParams);
      const found = file(path);
      if (found !== undefined) return found;
      const visitor = await visitorOf(request);
      if (visitor instanceof Response) return visitor;
      if (path === "/act") {
        return request.method === "POST"
          ? await acted(request, visitor)
          : plain(405, "Acts are sent by forms.");
      }
      if (request.method !== "GET" && request.method !== "HEAD") {
        return plain(405, "Pages can only be read.");
      }
      if (path === "/live") return live(visitor, url);
      const screen = screens[path];
      if (screen === undefined) return failure(404, "There is no such page", "", to("/"));
      return await shownPage(visitor, url, screen);
    } catch (error) {
      const { code, message, remedy } = translate(error);
      const status = code === "BAD_OPTION" ? 400 : code === "NO_PERMISSION" ? 403 : 503;
      const what = remedy === undefined ? message : message.replace(`. ${remedy}`, "");
      return failure(status, what, remedy ?? "", to("/"), to(filePath("page.css")));
    }
  };
}

/** What several pages show at one look. */
class Shared {
  #look: View["look"] | undefined;
  readonly #made = new Map<string, Promise<readonly Region[]>>();

  /** Makes it, unless it was made for this look. */
  at(
    look: View["look"],
    key: string,
    make: () => Promise<readonly Region[]>,
  ): Promise<readonly Region[]> {
    if (this.#look !== look) this.#made.clear();
    this.#look = look;
    let made = this.#made.get(key);
    if (made === undefined) this.#made.set(key, made = make());
    return made;
  }
}
