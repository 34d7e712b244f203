/**
 * The notification that a handler receives.
 *
 * @module
 */

import { HarkError } from "../errors.ts";

/** Where a reader stands while it reads a window. */
export interface Place {
  /** The position behind an id of the window, as text. Without an id: behind the window. */
  after(id?: number): string;
}

/** A row of the log as a reader receives it. */
export interface LogRow {
  /** The number of the notification in the log. */
  readonly id: number;
  /** The channel the notification was published on. */
  readonly channel: string;
  /** The key of the notification, or null. */
  readonly key: string | null;
  /** The payload as JSON text. Null if the notification cannot be read: see `problem`. */
  readonly payload: string | null;
  /** The headers as JSON text of an object, or null. */
  readonly headers: string | null;
  /**
   * Why the notification cannot be read. Such a notification is not delivered. Undefined if it can
   * be read.
   */
  readonly problem?: string | undefined;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  /** Whether the notification was committed before its reader started. */
  readonly isReplay: boolean;
  /** Where its reader is then. Undefined if the reader is a consumer. */
  readonly place?: Place | undefined;
}

/**
 * The kind of change to a table. `"SNAPSHOT"` is a row that already existed when watching the table
 * began.
 */
export type ChangeAction = "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" | "SNAPSHOT";

/**
 * The method that replaces what {@linkcode Notification.payload} gives. A registered symbol: a
 * module of handlers may have imported another copy of this package than the program that runs them.
 */
const payloadKey: unique symbol = Symbol.for("@hark/postgres:payload:1") as never;

/** Makes a value the payload of a notification: what the schema of its channel made of the JSON. */
export function setPayload(notification: Notification, value: unknown): void {
  given(notification)[payloadKey]({ value });
}

/** Makes the payload of a notification throw, because it fits no schema of its channel. */
export function setProblem(notification: Notification, problem: string): void {
  given(notification)[payloadKey]({ problem });
}

type Read = { readonly value: unknown } | { readonly problem: string };

function given(notification: Notification): { [payloadKey](read: Read): void } {
  return notification as never;
}

const actions: readonly ChangeAction[] = ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "SNAPSHOT"];

/**
 * A notification, as a handler or an iteration receives it.
 *
 * @example
 * ```ts
 * import type { Notification } from "@hark/postgres";
 *
 * function handle(notification: Notification<{ id: number }>) {
 *   console.log(notification.id, notification.payload.id, notification.isReplay);
 * }
 * ```
 */
// deno-lint-ignore no-explicit-any -- the payload's type is the caller's to name
export class Notification<Payload = any> {
  /** The number of the notification in the log. */
  readonly id: number;
  /** The channel the notification was published on. */
  readonly channel: string;
  /**
   * What the notification is about. Notifications with the same key are handled in order. Null if
   * there is no key.
   */
  readonly key: string | null;
  /**
   * Whether the notification was published before this reader started, rather than while it runs.
   */
  readonly isReplay: boolean;
  /**
   * Why the notification cannot be read, or why its payload does not fit its typed channel. Undefined if it can be read, which a consumer's handler may
   * rely on. A subscription also gets notifications that cannot be read: then `payload`, `payloadText`
   * and what is taken from them throw `BAD_PAYLOAD`, and `headers` is empty.
   */
  get problem(): string | undefined {
    return this.#problem ?? this.#logRow.problem;
  }
  /** The number of the delivery: 1 for the first known delivery, then 2, 3, …. */
  readonly attempt: number;
  readonly #logRow: LogRow;
  /** Why the payload does not fit its typed channel. */
  #problem: string | undefined;
  #date: Date | undefined;
  #payload: { readonly value: Payload } | undefined;
  #headers: Readonly<Record<string, unknown>> | undefined;

  static {
    // Not enumerable, and no member of the type.
    Object.defineProperty(this.prototype, payloadKey, {
      value(this: Notification, read: Read): void {
        if ("value" in read) this.#payload = read;
        else this.#problem = read.problem;
      },
    });
  }

  /** Called by readers only. */
  constructor(row: LogRow, attempt: number = 1) {
    this.id = row.id;
    this.channel = row.channel;
    this.key = row.key;
    this.isReplay = row.isReplay;
    this.attempt = attempt;
    this.#logRow = row;
  }

  /**
   * Where a subscription stands behind this notification, as text of at most 200 characters that a
   * URL takes as they are. Give it to `from: { position }` later, from any process, to go on with the
   * next notification. Positions of one subscription sort as text in its order. Undefined for a
   * notification that a consumer handles: the database keeps the positions of consumers.
   */
  get position(): string | undefined {
    return this.#logRow.place?.after(this.id);
  }

  /** The clock at the publishing call, which is before the publisher's transaction committed. */
  get createdAt(): Date {
    return this.#date ??= new Date(this.#logRow.createdAt);
  }

  /**
   * The published value, parsed from JSON on first access. On a typed channel: what its schema made
   * of that. Numbers beyond 2^53 lose digits. To keep
   * them, use {@linkcode Notification.payloadText}.
   */
  get payload(): Payload {
    if (this.problem !== undefined) throw this.#unreadable();
    return (this.#payload ??= { value: JSON.parse(this.payloadText) as Payload }).value;
  }

  /**
   * The payload as the JSON text that the server sent.
   *
   * @throws {HarkError} `BAD_PAYLOAD` if the notification cannot be read. Its payload or headers are
   *   over 64 MB or over 256 MB as text, are damaged, or hold bytes that are no UTF-8. A consumer's
   *   handler never receives such a notification: it becomes a dead letter.
   */
  get payloadText(): string {
    const { payload } = this.#logRow;
    if (payload === null) throw this.#unreadable();
    return payload;
  }

  /** Facts about the notification, such as a trace. An empty object if there are none. */
  get headers(): Readonly<Record<string, unknown>> {
    return this.#headers ??= JSON.parse(this.headersText);
  }

  /** The headers as the JSON text that the server sent, with all digits of numbers; `{}` if there are none. */
  get headersText(): string {
    return this.#logRow.headers ?? "{}";
  }

  /**
   * Whether the notification reports a change of a table: its payload names a table and an action.
   */
  get isDatabaseChange(): boolean {
    return this.table !== undefined && this.action !== undefined;
  }

  /** The table that changed, if the notification reports a change. */
  get table(): string | undefined {
    const table = this.#field("table");
    return typeof table === "string" ? table : undefined;
  }

  /** The kind of change, in upper case. */
  get action(): ChangeAction | undefined {
    const action = this.#field("action");
    const upper = typeof action === "string" ? action.toUpperCase() : undefined;
    return actions.find((one) => one === upper);
  }

  /** The id of the row that changed. */
  get recordId(): unknown {
    return this.isDatabaseChange ? this.#field("id") : undefined;
  }

  /** The row before the change. */
  get oldData(): Readonly<Record<string, unknown>> | undefined {
    return this.#row("old");
  }

  /** The row after the change. */
  get newData(): Readonly<Record<string, unknown>> | undefined {
    return this.#row("new");
  }

  /** Whether the notification reports an inserted row. */
  get isInsert(): boolean {
    return this.isDatabaseChange && this.action === "INSERT";
  }

  /** Whether the notification reports an updated row. */
  get isUpdate(): boolean {
    return this.isDatabaseChange && this.action === "UPDATE";
  }

  /** Whether the notification reports a deleted row. */
  get isDelete(): boolean {
    return this.isDatabaseChange && this.action === "DELETE";
  }

  /** Whether the notification reports that a table was truncated. */
  get isTruncate(): boolean {
    return this.isDatabaseChange && this.action === "TRUNCATE";
  }

  /**
   * Whether the notification reports a row that already existed, as a part of a snapshot of the
   * table.
   */
  get isSnapshot(): boolean {
    return this.isDatabaseChange && this.action === "SNAPSHOT";
  }

  #unreadable(): HarkError {
    return new HarkError(
      "BAD_PAYLOAD",
      `notification ${this.id} cannot be read: ${this.problem}`,
      {
        remedy: this.#logRow.payload === null
          ? "Skip it. Publish a reference instead of a payload over 64 MB, and text that is UTF-8."
          : "Skip it, or read its payloadText.",
      },
    );
  }

  #field(name: string): unknown {
    const payload: unknown = this.payload;
    return payload !== null && typeof payload === "object" && !Array.isArray(payload)
      ? (payload as Record<string, unknown>)[name]
      : undefined;
  }

  #row(name: string): Readonly<Record<string, unknown>> | undefined {
    const row = this.isDatabaseChange ? this.#field(name) : undefined;
    return row !== null && typeof row === "object" ? row as Record<string, unknown> : undefined;
  }

  /** The channel and the id, such as `orders #42`. The payload, which may be secret, is left out. */
  toString(): string {
    return `${this.channel} #${this.id}`;
  }

  /** Converts the notification to plain data, for `JSON.stringify`. */
  toJSON(): Record<string, unknown> {
    return {
      id: this.id,
      channel: this.channel,
      key: this.key,
      // As it was published: a schema may have made a Set or a bigint of it, which is no JSON.
      payload: this.#logRow.payload === null ? null : JSON.parse(this.#logRow.payload),
      headers: this.headers,
      createdAt: this.createdAt,
      isReplay: this.isReplay,
      attempt: this.attempt,
      ...(this.problem === undefined ? {} : { problem: this.problem }),
    };
  }
}
