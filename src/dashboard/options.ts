/**
 * The options of the dashboard.
 *
 * @module
 */

import { bad, knownOptions, text, wholeNumber } from "../check.ts";
import { aDay } from "../duration.ts";
import type { LoggedNotification } from "../operate/notifications.ts";

/** A person at the dashboard, as {@linkcode DashboardOptions.authorize} names them. */
export interface Visitor {
  /** The name for the record of acts, 1 to 200 characters. */
  readonly name: string;
  /** What the person may do: look only, or also act. */
  readonly role: "read" | "operate";
}

/** What `redact` is given: a notification as the page would show it. */
export type ShownNotification =
  & Pick<LoggedNotification, "id" | "key" | "payload" | "headers">
  & { readonly channel: string | null };

/** Options of {@linkcode dashboard}. */
export interface DashboardOptions {
  /**
   * The path under which the dashboard is mounted, as the browser sees it, such as `"/admin/hark"`.
   * @default {"/"}
   */
  readonly path?: string;
  /** Whether all acts are refused, whatever `authorize` answers. @default {false} */
  readonly readOnly?: boolean;
  /**
   * Decides about each request, before anything is read. It returns the visitor, a response to give
   * instead (such as a redirect to a login), or null to refuse.
   */
  readonly authorize: (
    request: Request,
  ) => Visitor | Response | null | Promise<Visitor | Response | null>;
  /**
   * Changes a notification before a page shows its key, payload and headers, for instance to leave
   * out personal data. Pages show no payload until a visitor asks for it. A list that reads only keys
   * gives a payload of null and no headers. With it, a visitor with the role `read` cannot search by
   * key and payload, as guesses would find what is left out. Texts of errors are shown as they are. A number that JavaScript has no room for, such as one
   * beyond 2^53, is an object of `JSON.rawJSON`.
   */
  readonly redact?: (notification: ShownNotification) => ShownNotification;
  /**
   * The address of a trace in your own tracing system, for the links of notifications whose header
   * `traceparent` names one.
   */
  readonly traceUrl?: (traceId: string) => string;
  /**
   * The secret that signs forms, at least 32 characters. Give all processes behind one address the
   * same. Unless given, each process draws its own.
   */
  readonly secret?: string;
  /** The interval between two looks at the database while a page is open, 500 to 60,000 ms. @default {2000} */
  readonly interval?: number;
  /** The `statement_timeout` of each query of a page, 100 to 60,000 ms. @default {5000} */
  readonly statementTimeout?: number;
  /** The maximum number of open pages that are kept live, 1 to 1,000. @default {50} */
  readonly maxStreams?: number;
  /**
   * How long a page is kept live before it connects again, 1,000 to 86,400,000 ms. `authorize` is then
   * asked again, so a visitor without rights any more sees an open page for this long at most.
   * @default {600000}
   */
  readonly lifetime?: number;
  /** Ends what keeps open pages live when it aborts, for the end of a server. `close` of the database does too. */
  readonly signal?: AbortSignal;
}

/** The options with their defaults. */
export interface Settings {
  /** Without a slash at its end: empty for the root. */
  readonly path: string;
  readonly readOnly: boolean;
  readonly authorize: DashboardOptions["authorize"];
  readonly redact: (notification: ShownNotification) => ShownNotification;
  /** Whether it is one of the program's own. */
  readonly redacts: boolean;
  readonly traceUrl: DashboardOptions["traceUrl"];
  readonly secret: string;
  readonly interval: number;
  readonly statementTimeout: number;
  readonly maxStreams: number;
  readonly lifetime: number;
  readonly signal: AbortSignal | undefined;
}

/** Checks the options. @throws {HarkError} `BAD_OPTION`. */
export function settingsOf(options: DashboardOptions): Settings {
  knownOptions("dashboard", options, [
    "path",
    "readOnly",
    "authorize",
    "redact",
    "traceUrl",
    "secret",
    "interval",
    "statementTimeout",
    "maxStreams",
    "lifetime",
    "signal",
  ]);
  const { path = "/", readOnly = false, authorize, redact, traceUrl, secret, signal } = options;
  if (typeof path !== "string" || !/^\/([\w.~-]+\/?)*$/.test(path)) {
    bad("path", path, 'Give a path of plain words, such as "/admin/hark".');
  }
  if (typeof readOnly !== "boolean") bad("readOnly", readOnly, "Give true or false.");
  if (authorize === undefined) {
    bad(
      "authorize",
      authorize,
      'Give a function that names the visitor of a request. () => ({ name: "all", role: "read" }) shows it to every visitor.',
    );
  }
  for (const [name, value] of Object.entries({ authorize, redact, traceUrl })) {
    if (value !== undefined && typeof value !== "function") bad(name, value, "Give a function.");
  }
  if (secret !== undefined && (typeof secret !== "string" || secret.length < 32)) {
    // The value is secret.
    bad("secret", typeof secret, "Give text of at least 32 characters.");
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    bad("signal", signal, "Give the signal of an AbortController.");
  }
  return {
    path: path.replace(/\/$/, ""),
    readOnly,
    authorize,
    redact: redact ?? ((notification) => notification),
    redacts: redact !== undefined,
    traceUrl,
    secret: secret ?? crypto.randomUUID() + crypto.randomUUID(),
    interval: wholeNumber("interval", options.interval, 2000, 500, 60_000),
    statementTimeout: wholeNumber("statementTimeout", options.statementTimeout, 5000, 100, 60_000),
    maxStreams: wholeNumber("maxStreams", options.maxStreams, 50, 1, 1000),
    lifetime: wholeNumber("lifetime", options.lifetime, 600_000, 1000, aDay),
    signal,
  };
}

/** Checks what `authorize` answered. @throws {HarkError} `BAD_OPTION`. */
export function checkVisitor(visitor: Visitor): Visitor {
  const { name, role } = visitor;
  if (typeof name !== "string" || name === "" || [...name].length > 200) {
    bad("the visitor's name", name, "Have authorize return a name of 1 to 200 characters.");
  }
  text("the visitor's name", name, "BAD_OPTION");
  if (role !== "read" && role !== "operate") {
    bad("the visitor's role", role, 'Have authorize return "read" or "operate".');
  }
  return { name, role };
}
