/**
 * A handler that prints notifications.
 *
 * @module
 */

import { bad, knownOptions, wholeNumber } from "../check.ts";
import type { Handler } from "../consume/handler.ts";
import type { Notification } from "../consume/notification.ts";
import { visible } from "../visible.ts";

/** Options of {@linkcode print}. */
export interface PrintOptions {
  /**
   * Whether to print payloads.
   *
   * @default {true}
   */
  readonly payload?: boolean;
  /**
   * The names of the headers to print. No other header is printed, because headers may hold secrets.
   *
   * @default {none}
   */
  readonly headers?: readonly string[];
  /**
   * The most characters of a payload, 1 to 1000000. The rest is left out.
   *
   * @default {2000}
   */
  readonly maxLength?: number;
  /**
   * What to call with each line.
   *
   * @default {console.log}
   */
  readonly write?: (line: string) => unknown;
}

/**
 * Returns a handler that prints each notification on one line: its kind (`live` or `replay`), time,
 * channel, id, payload, key and attempt. Control characters are written as JSON does.
 *
 * @throws {HarkError} `BAD_OPTION`.
 * @example
 * ```ts
 * import { connect, Consumer } from "@hark/postgres";
 * import { print } from "@hark/postgres/handlers";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await new Consumer(db, { id: "printer", channels: "orders", handle: print() }).run();
 * ```
 */
export function print(options: PrintOptions = {}): Handler {
  knownOptions("print", options, ["payload", "headers", "maxLength", "write"]);
  const { payload = true, headers = [], write } = options;
  if (typeof payload !== "boolean") bad("payload", payload, "Give true or false.");
  if (!Array.isArray(headers) || headers.some((name) => typeof name !== "string")) {
    bad("headers", headers, "Give a list of the names of headers.");
  }
  if (write !== undefined && typeof write !== "function") bad("write", write, "Give a function.");
  const most = wholeNumber("maxLength", options.maxLength, 2000, 1, 1_000_000);
  return (notification) => {
    const text = line(notification, payload ? most : 0, headers);
    return write === undefined ? console.log(text) : write(text);
  };
}

function line(n: Notification, most: number, names: readonly string[]): string {
  const parts = [n.isReplay ? "replay" : "live  "];
  parts.push(n.createdAt.toISOString(), visible(n.channel), `#${n.id}`);
  if (most > 0) {
    const { payloadText: text } = n;
    const rest = text.length - most;
    parts.push(visible(
      rest > 0 ? `${text.slice(0, most).toWellFormed()}... (${rest} characters more)` : text,
    ));
  }
  if (n.key !== null) parts.push(`key=${visible(n.key)}`);
  for (const name of names) {
    if (!Object.hasOwn(n.headers, name)) continue;
    parts.push(`${visible(name)}=${visible(JSON.stringify(n.headers[name]))}`);
  }
  if (n.attempt > 1) parts.push(`attempt=${n.attempt}`);
  return parts.join(" ");
}
