/**
 * The types of changes of a watched table.
 *
 * @module
 */

import type { Notification } from "../consume/notification.ts";

/**
 * What a watch publishes for a row:
 *
 * - `"full"`: the row before and after, and the names of the columns that changed;
 * - `"new"`: the row after the change, and nothing of a deleted row;
 * - `"diff"`: for an update, the old and new values of the columns that changed; for other
 *   operations, whole rows;
 * - `"key"`: the key alone.
 */
export type WatchPayload = "full" | "new" | "diff" | "key";

/** The name of a column that the watch publishes. */
export type Column<Row> = Extract<keyof Row, string>;

/** The origin of a change. */
export interface ChangeMetadata {
  /** The login role, `session_user`. */
  readonly user: string;
  /** The role set by `SET ROLE`; otherwise the login role. */
  readonly role: string;
  /** The session's `application_name`. */
  readonly application: string;
  /** The process id of the session, as in `pg_stat_activity`. */
  readonly session: number;
  /**
   * The transaction number, as text. All changes of one transaction have the same number. The
   * numbers are not in the order of commits.
   */
  readonly transaction: string;
}

/** The fields of every change of a watched table, whether or not its rows were published. */
export interface ChangeFacts {
  /** The table's schema as stored in the catalog, without quotes. */
  readonly schema: string;
  /** The table's name as stored in the catalog, without quotes. */
  readonly table: string;
  /** The table's partition that holds the row; undefined if the watched table itself holds it. */
  readonly partition: string | undefined;
  /** The origin of the change. */
  readonly metadata: ChangeMetadata;
  /**
   * The notification's headers: the watch's own headers, overridden by what `setContext` set in the
   * transaction.
   */
  readonly context: Readonly<Record<string, unknown>>;
  /** The notification of the change: its id, its key, its time and its attempt. */
  readonly notification: Notification;
}

/** The fields and type guards of changes that carry their rows. */
export interface ChangeGuards<Row, Payload extends WatchPayload, Id, Part> extends ChangeFacts {
  /** Whether a row was inserted. */
  isInsert(): this is InsertChange<Row, Payload, Id, Part>;
  /** Whether a row was updated. */
  isUpdate(): this is UpdateChange<Row, Payload, Id, Part>;
  /** Whether a row was deleted. */
  isDelete(): this is DeleteChange<Row, Payload, Id, Part>;
  /** Whether the table was truncated. */
  isTruncate(): this is TruncateChange<Row, Payload, Id, Part>;
  /** Whether this is not a change, but a row that existed when the watch began. */
  isSnapshot(): this is SnapshotChange<Row, Payload, Id, Part>;
  /** Always false here: see {@linkcode OversizedChange}. */
  readonly truncated: false;
}

/** An inserted row. */
export interface InsertChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** The operation. */
  readonly action: "INSERT";
  /**
   * The key: the value of one column, an object of several columns, or null if the table has no
   * key.
   */
  readonly id: Id;
  /** An insert has no old row. */
  readonly old: undefined;
  /** The inserted row; undefined with the payload `"key"`. */
  readonly new: Payload extends "key" ? undefined : Row;
  /** Only updates have changed columns. */
  readonly changed: undefined;
  /**
   * Whether an update changed the key. The row was then deleted under the old key and inserted
   * under this one.
   */
  readonly moved: boolean;
}

/** An updated row that kept its key. */
export interface UpdateChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** The operation. */
  readonly action: "UPDATE";
  /**
   * The key: the value of one column, an object of several columns, or null if the table has no
   * key.
   */
  readonly id: Id;
  /**
   * The row before the update with `"full"`, the changed columns with `"diff"`, otherwise
   * undefined.
   */
  readonly old: Payload extends "full" ? Row : Payload extends "diff" ? Part : undefined;
  /**
   * The row after the update with `"full"` and `"new"`, the changed columns with `"diff"`,
   * otherwise undefined.
   */
  readonly new: Payload extends "key" ? undefined : Payload extends "diff" ? Part : Row;
  /** The columns whose values changed; undefined with the payloads `"new"` and `"key"`. */
  readonly changed: Payload extends "full" | "diff" ? readonly Column<Row>[] : undefined;
  /** Always false: a change of the key is published as a delete and an insert. */
  readonly moved: false;
}

/** A deleted row. */
export interface DeleteChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** The operation. */
  readonly action: "DELETE";
  /**
   * The key: the value of one column, an object of several columns, or null if the table has no
   * key.
   */
  readonly id: Id;
  /** The deleted row; undefined with the payloads `"new"` and `"key"`. */
  readonly old: Payload extends "full" | "diff" ? Row : undefined;
  /** A delete has no new row. */
  readonly new: undefined;
  /** Only updates have changed columns. */
  readonly changed: undefined;
  /**
   * Whether an update changed the key. The row is then deleted under this key and inserted under
   * the new one.
   */
  readonly moved: boolean;
}

/** A TRUNCATE of the table, which removed all its rows. */
export interface TruncateChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** The operation. */
  readonly action: "TRUNCATE";
  /** Always null: a TRUNCATE concerns no single row. */
  readonly id: null;
  /** The removed rows are not published. */
  readonly old: undefined;
  /** A TRUNCATE has no new row. */
  readonly new: undefined;
  /** Only updates have changed columns. */
  readonly changed: undefined;
  /** Always false: a TRUNCATE changes no key. */
  readonly moved: false;
}

/** A row that existed when a snapshot of the table was published. */
export interface SnapshotChange<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> extends ChangeGuards<Row, Payload, Id, Part> {
  /** The operation: none, but a snapshot. */
  readonly action: "SNAPSHOT";
  /**
   * The key: the value of one column, an object of several columns, or null if the table has no
   * key.
   */
  readonly id: Id;
  /** A snapshot has no old row. */
  readonly old: undefined;
  /** The row; undefined with the payload `"key"`. */
  readonly new: Payload extends "key" ? undefined : Row;
  /** Only updates have changed columns. */
  readonly changed: undefined;
  /** Always false: a snapshot changes no key. */
  readonly moved: false;
}

/**
 * A change of a watched table. Test `action`, or call `isInsert()` and so on: each narrows the
 * types of `old`, `new` and `id`.
 *
 * `Row` is what the watch publishes of a row, with the types of JSON: a `timestamptz` is a string.
 * `Id` is the type of the key. `Part` is the type of `old` and `new` of an update with the payload
 * `"diff"`.
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

/**
 * A change whose row was larger than the watch's `maxBytes`, so that only the key was published.
 */
export interface OversizedChange<Id = unknown> extends ChangeFacts {
  /** The operation. */
  readonly action: "INSERT" | "UPDATE" | "DELETE" | "SNAPSHOT";
  /**
   * The key: the value of one column, an object of several columns, or null if the table has no
   * key.
   */
  readonly id: Id;
  /** Not published. */
  readonly old: undefined;
  /** Not published. */
  readonly new: undefined;
  /** Always true here. */
  readonly truncated: true;
  /** Whether an update changed the key. This is then either the delete or the insert. */
  readonly moved: boolean;
}
