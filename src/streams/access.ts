/**
 * What a request may read.
 *
 * @module
 */

import { getLogger } from "../log/logger.ts";
import { show } from "../show.ts";
import {
  type CheckedRoute,
  checkedRoute,
  type StreamRoute,
  type StreamsValues,
} from "./options.ts";
import type { Reply } from "./reply.ts";

const logger = getLogger(["hark", "streams"]);

/** Asks `authorize` and `route` about requests. */
export class Access {
  readonly #authorize: StreamsValues["authorize"];
  readonly #route: StreamsValues["route"];
  #told = false;

  constructor({ authorize, route }: Pick<StreamsValues, "authorize" | "route">) {
    this.#authorize = authorize;
    this.#route = route;
  }

  /** What a request may read, or the response if it may read nothing. */
  async of(request: Request, reply: Reply): Promise<CheckedRoute | Response> {
    const access = await this.#authorize(request);
    if (access instanceof Response) return access;
    const own = this.#allowed(access);
    if (own === undefined) {
      return reply.error(403, "NO_PERMISSION", "you may not read this", "Log in, or ask for it.");
    }
    const given = own.channels === undefined ? await this.#route(request) : {};
    if (given === null || given === undefined) {
      return reply.error(404, "NO_STREAM", "there is no such stream", "Look at the address.");
    }
    return checkedRoute(given, own);
  }

  /** Undefined if nothing may be read: also if an answer says neither yes nor no, such as "" or 0. */
  #allowed(access: unknown): Partial<StreamRoute> | undefined {
    if (access === true) return {};
    if (Object.prototype.toString.call(access) === "[object Object]") return access as StreamRoute;
    if (access !== false && access !== null && access !== undefined && !this.#told) {
      this.#told = true;
      logger.error(
        "authorize of streams returned {access}, so the request is refused. Return true, false, a Response or an object such as { filter }.",
        { access: show(access) },
      );
    }
    return undefined;
  }
}
