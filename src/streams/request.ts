/**
 * What a request asks for, and what it is told if that cannot be.
 *
 * @module
 */

import { parsePosition } from "../consume/state/parse_outside.ts";
import { isPassing, messageOf, translate } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import type { Start } from "./cursor.ts";
import type { Reply } from "./reply.ts";

const logger = getLogger(["hark", "streams"]);

/** Whether a request is one of an `EventSource`. */
export function isPlain(request: Request, query: URLSearchParams): boolean {
  return !query.has("live") && /\btext\/event-stream\b/.test(request.headers.get("accept") ?? "");
}

/** Where a request begins. */
export function startOf(
  request: Request,
  query: URLSearchParams,
  plain: boolean,
  live: boolean,
): Start | HarkError {
  const given = query.getAll("offset");
  // What a browser sends when it connects again is newer than the address.
  const last = plain || live ? request.headers.get("last-event-id") : null;
  const offset = last !== null && last !== "" ? last : given[0];
  const forms = "Give -1, now, or what stream-next-offset was.";
  try {
    if (given.length > 1) {
      throw new HarkError("BAD_OPTION", "offset is given twice", { remedy: forms });
    }
    if (offset === undefined) {
      if (plain) return "now";
      if (!live) return "beginning";
      throw new HarkError("BAD_OPTION", "a live read has no offset", { remedy: forms });
    }
    if (offset === "now") return "now";
    if (offset === "-1") return "beginning";
    parsePosition("offset", offset, forms);
    return { position: offset };
  } catch (error) {
    return error as HarkError;
  }
}

/** What a client is told that has missed something. */
export function missed(reply: Reply, { through }: { readonly through: number }): Response {
  return reply.error(
    410,
    "GONE",
    `notifications up to ${through} were cleaned before they were read, or may have been`,
    "Begin again with offset=-1.",
  );
}

/**
 * What a client is told that is to come again. An `EventSource` would give up at a status that is not
 * 200, so it gets a stream that ends at once.
 */
export function busy(reply: Reply, plain: boolean, message: string): Response {
  if (plain) return reply.of(200, "retry: 5000\n\n", { "content-type": "text/event-stream" });
  return reply.error(503, "BUSY", message, "Try again in a while.", { "retry-after": "5" });
}

/** What a client is told of an error: what is wrong with its request, or what {@linkcode failed} says. */
export function failure(reply: Reply, plain: boolean, error: unknown): Response {
  const { code, message, remedy } = translate(error);
  if (code !== "BAD_OPTION") return failed(reply, plain, error);
  const what = remedy === undefined ? message : message.replace(`. ${remedy}`, "");
  return reply.error(400, code, what, remedy ?? "Look at the request.");
}

/**
 * What a client is told of an error of the server: to come again, or that this would be of no use.
 * What is wrong there is no business of the client.
 */
export function failed(reply: Reply, plain: boolean, error: unknown): Response {
  const reason = translate(error);
  logger.error("A stream could not be read: {reason}", { reason: messageOf(reason) });
  if (isPassing(reason)) return busy(reply, plain, "the log cannot be read now");
  return reply.error(
    500,
    "FAILED",
    "the log cannot be read",
    "Have the operator of this server look at what it has logged.",
  );
}
