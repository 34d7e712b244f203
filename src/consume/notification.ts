/**
 * What a handler is given.
 *
 * @module
 */

import { HarkError } from "../errors.ts";

/** A row of the log as a reader receives it. */
export interface LogRow {
  /** Its number. */
  readonly id: number;
  /** Its channel. */
  readonly channel: string;
  /** Its key. */
  readonly key: string | null;
  /** JSON text; null where it is over 64 MB, or over 256 MB as text, and is not delivered. */
  readonly payload: string | null;
  /** JSON text of an object, or null. */
  readonly headers: string | null;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  /** Whether it was there before its reader started. */
  readonly isReplay: boolean;
}

/** What a change of a table was; `"SNAPSHOT"` is a row that was there when the table came to be watched. */
export type ChangeAction = "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" | "SNAPSHOT";

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
  /** Its number in the log. */
  readonly id: number;
  /** The channel it was published on. */
  readonly channel: string;
  /** What it is about; notifications of one key are handled in order. Null where it has none. */
  readonly key: string | null;
  /** Whether it had been published before this reader started, rather than while it runs. */
  readonly isReplay: boolean;
  /** 1 at the first delivery that is known of, then 2, 3, …. */
  readonly attempt: number;
  readonly #payloadText: string | null;
  readonly #headersText: string | null;
  readonly #createdAt: number;
  #date: Date | undefined;
  #payload: { readonly value: Payload } | undefined;
  #headers: Readonly<Record<string, unknown>> | undefined;

  /** Readers make these. */
  constructor(row: LogRow, attempt: number = 1) {
    this.id = row.id;
    this.channel = row.channel;
    this.key = row.key;
    this.isReplay = row.isReplay;
    this.attempt = attempt;
    this.#payloadText = row.payload;
    this.#headersText = row.headers;
    this.#createdAt = row.createdAt;
  }

  /** The clock at the publishing call, which is before its transaction committed. */
  get createdAt(): Date {
    return this.#date ??= new Date(this.#createdAt);
  }

  /**
   * What was published. Parsed from JSON when first read; numbers beyond 2^53 lose digits, see
   * {@linkcode Notification.payloadText}.
   */
  get payload(): Payload {
    return (this.#payload ??= { value: JSON.parse(this.payloadText) as Payload }).value;
  }

  /**
   * The payload as the JSON text the server sent.
   *
   * @throws {HarkError} `BAD_PAYLOAD` where it is over 64 MB, or over 256 MB as text: more is not read. A
   * consumer's handler never sees such a one, it becomes a dead letter.
   */
  get payloadText(): string {
    if (this.#payloadText === null) {
      throw new HarkError(
        "BAD_PAYLOAD",
        `the payload of notification ${this.id} is too large to be read`,
        {
          remedy: "Publish a reference to what is over 64 MB, not the thing itself.",
        },
      );
    }
    return this.#payloadText;
  }

  /** Facts about the notification, such as a trace; an empty object where there are none. */
  get headers(): Readonly<Record<string, unknown>> {
    return this.#headers ??= this.#headersText === null ? {} : JSON.parse(this.#headersText);
  }

  /** Whether it tells of a table's change: its payload names a table and an action. */
  get isDatabaseChange(): boolean {
    return this.table !== undefined && this.action !== undefined;
  }

  /** The table that changed, where it tells of a change. */
  get table(): string | undefined {
    const table = this.#field("table");
    return typeof table === "string" ? table : undefined;
  }

  /** What the change was, in upper case. */
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

  /** Whether it tells of an inserted row. */
  get isInsert(): boolean {
    return this.isDatabaseChange && this.action === "INSERT";
  }

  /** Whether it tells of an updated row. */
  get isUpdate(): boolean {
    return this.isDatabaseChange && this.action === "UPDATE";
  }

  /** Whether it tells of a deleted row. */
  get isDelete(): boolean {
    return this.isDatabaseChange && this.action === "DELETE";
  }

  /** Whether it tells that a table was truncated. */
  get isTruncate(): boolean {
    return this.isDatabaseChange && this.action === "TRUNCATE";
  }

  /** Whether it tells of a row that was there already: a part of a snapshot. */
  get isSnapshot(): boolean {
    return this.isDatabaseChange && this.action === "SNAPSHOT";
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

  /** As plain data, for `JSON.stringify`. */
  toJSON(): Record<string, unknown> {
    return {
      id: this.id,
      channel: this.channel,
      key: this.key,
      payload: this.payload,
      headers: this.headers,
      createdAt: this.createdAt,
      isReplay: this.isReplay,
      attempt: this.attempt,
    };
  }
}
