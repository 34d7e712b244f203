/**
 * What a change of a watched table is, for the compiler.
 *
 * @module
 */

import type { Notification } from "../consume/notification.ts";

/**
 * What a watch publishes of a row:
 *
 * - `"full"`: the row before and after, and which columns have changed;
 * - `"new"`: the row after, nothing of a deleted one;
 * - `"diff"`: of an update, old and new values of the columns that have changed; whole rows of others;
 * - `"key"`: the key alone.
 */
export type WatchPayload = "full" | "new" | "diff" | "key";

/** A column that is published of a row. */
export type Column<Row> = Extract<keyof Row, string>;

/** Who made a change. */
export interface ChangeMetadata {
  /** Who logged in: `session_user`. */
  readonly user: string;
  /** The role that was set, else the user. */
  readonly role: string;
  /** `application_name`. */
  readonly application: string;
  /** The session's process, as in `pg_stat_activity`. */
  readonly session: number;
  /** The transaction, as text: all its changes have the same. It is no order. */
  readonly transaction: string;
}

/** What every change of a watched table tells, whether or not it has a row. */
export interface ChangeFacts {
  /** The schema of the table, as it is stored: no quotes. */
  readonly schema: string;
  /** The table, as it is stored: no quotes. */
  readonly table: string;
  /** The partition that the row is in, where it is not the watched table itself that has it. */
  readonly partition: string | undefined;
  /** Who made the change. */
  readonly metadata: ChangeMetadata;
  /** What `setContext` said in the transaction, over the watch's own headers: the notification's headers. */
  readonly context: Readonly<Record<string, unknown>>;
  /** The notification that tells of the change: its id, its key, when, which attempt. */
  readonly notification: Notification;
}

/** What the changes that have their rows can be asked. */
export interface ChangeGuards<Row, Payload extends WatchPayload, Id, Part> extends ChangeFacts {
  /** Whether a row was inserted. */
  isInsert(): this is InsertChange<Row, Payload, Id, Part>;
  /** Whether a row was updated. */
  isUpdate(): this is UpdateChange<Row, Payload, Id, Part>;
  /** Whether a row was deleted. */
  isDelete(): this is DeleteChange<Row, Payload, Id, Part>;
  /** Whether the table was truncated. */
  isTruncate(): this is TruncateChange<Row, Payload, Id, Part>;
  /** Whether it is no change, but a row that was there when the table came to be watched. */
  isSnapshot(): this is SnapshotChange<Row, Payload, Id, Part>;
  /** Always false here: see {@linkcode OversizedChange}. */
  readonly truncated: false;
}

/** A row that was inserted. */
export interface InsertChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** What it was. */
  readonly action: "INSERT";
  /** The key: a column's value, an object of several columns, or null where the table has none. */
  readonly id: Id;
  /** There was none. */
  readonly old: undefined;
  /** The row; undefined with the payload `"key"`. */
  readonly new: Payload extends "key" ? undefined : Row;
  /** Told of updates only. */
  readonly changed: undefined;
  /** Whether an update changed the key: the row was deleted under the old one and is inserted under this. */
  readonly moved: boolean;
}

/** A row that was updated, and kept its key. */
export interface UpdateChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** What it was. */
  readonly action: "UPDATE";
  /** The key: a column's value, an object of several columns, or null where the table has none. */
  readonly id: Id;
  /** Before: the row with `"full"`, what has changed of it with `"diff"`, else undefined. */
  readonly old: Payload extends "full" ? Row : Payload extends "diff" ? Part : undefined;
  /** After: the row with `"full"` and `"new"`, what has changed of it with `"diff"`, else undefined. */
  readonly new: Payload extends "key" ? undefined : Payload extends "diff" ? Part : Row;
  /** The columns whose values have changed; undefined with the payloads `"new"` and `"key"`. */
  readonly changed: Payload extends "full" | "diff" ? readonly Column<Row>[] : undefined;
  /** A change of the key is a deletion and an insertion. */
  readonly moved: false;
}

/** A row that was deleted. */
export interface DeleteChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** What it was. */
  readonly action: "DELETE";
  /** The key: a column's value, an object of several columns, or null where the table has none. */
  readonly id: Id;
  /** The row; undefined with the payloads `"new"` and `"key"`. */
  readonly old: Payload extends "full" | "diff" ? Row : undefined;
  /** There is none. */
  readonly new: undefined;
  /** Told of updates only. */
  readonly changed: undefined;
  /** Whether an update changed the key: the row is deleted under this one and inserted under the new. */
  readonly moved: boolean;
}

/** A table that was truncated: all its rows are gone. */
export interface TruncateChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** What it was. */
  readonly action: "TRUNCATE";
  /** It is about no single row. */
  readonly id: null;
  /** The rows are not told. */
  readonly old: undefined;
  /** There is none. */
  readonly new: undefined;
  /** Told of updates only. */
  readonly changed: undefined;
  /** A row is what moves. */
  readonly moved: false;
}

/** A row that was there already when a snapshot came by. */
export interface SnapshotChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** What it is. */
  readonly action: "SNAPSHOT";
  /** The key: a column's value, an object of several columns, or null where the table has none. */
  readonly id: Id;
  /** There was no change. */
  readonly old: undefined;
  /** The row; undefined with the payload `"key"`. */
  readonly new: Payload extends "key" ? undefined : Row;
  /** Told of updates only. */
  readonly changed: undefined;
  /** A snapshot finds a row where it is. */
  readonly moved: false;
}

/**
 * A change of a watched table. `action` says which, or `isInsert()` and so on, and with it what `old`,
 * `new` and `id` are.
 *
 * `Row` is what the watch publishes of a row, as JSON has it: a `timestamptz` is a string. `Id` is the
 * type of the key, `Part` what is told of an update with the payload `"diff"`.
 *
 * @example
 * ```ts
 * import type { Change } from "@hark/postgres";
 *
 * interface User {
 *   id: number;
 *   email: string;
 * }
 *
 * function onUser(change: Change<User>) {
 *   if (change.isUpdate() && change.changed.includes("email")) {
 *     console.log(change.old.email, "is now", change.new.email);
 *   } else if (change.isDelete()) {
 *     console.log(change.old.email, "has left");
 *   }
 * }
 * ```
 */
export type Change<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> =
  | InsertChange<Row, Payload, Id, Part>
  | UpdateChange<Row, Payload, Id, Part>
  | DeleteChange<Row, Payload, Id, Part>
  | TruncateChange<Row, Payload, Id, Part>
  | SnapshotChange<Row, Payload, Id, Part>;

/** A change whose row was larger than the watch's `maxBytes`, so that only its key was published. */
export interface OversizedChange<Id = unknown> extends ChangeFacts {
  /** What it was. */
  readonly action: "INSERT" | "UPDATE" | "DELETE" | "SNAPSHOT";
  /** The key: a column's value, an object of several columns, or null where the table has none. */
  readonly id: Id;
  /** Not published. */
  readonly old: undefined;
  /** Not published. */
  readonly new: undefined;
  /** Always true here. */
  readonly truncated: true;
  /** Whether an update changed the key, and this is one half of it. */
  readonly moved: boolean;
}
