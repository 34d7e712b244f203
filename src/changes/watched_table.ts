/**
 * The type of a watched table: its rows, its key and its payload.
 *
 * @module
 */

import type { Handler, HandlerContext } from "../consume/handler.ts";
import type { Notification } from "../consume/notification.ts";
import type { Change, Column, OversizedChange, WatchPayload } from "./change.ts";

/** The type of a change's `id`, for a row and the columns of its key. */
export type IdOf<Row, Key> = [Key] extends [never] ? unknown
  : [Key] extends [keyof Row]
    ? IsOne<Key> extends true ? Row[Key] : { readonly [Name in Extract<Key, keyof Row>]: Row[Name] }
  : unknown;

/** Whether a type is not a union. */
export type IsOne<Type, Whole = Type> = Type extends unknown ? [Whole] extends [Type] ? true : false
  : never;

/**
 * The part of a row that an update carries with the payload `"diff"`. Its values are `unknown`,
 * because no schema can check a part of a row.
 */
export type UncheckedPart<Row> = { readonly [Name in Column<Row>]?: unknown };

/**
 * A watched table from {@linkcode watched}. {@linkcode watch} takes it, consumers use its channel
 * and handler, and the compiler its types.
 */
export interface Watched<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> {
  /** The table's name, as it was given. */
  readonly table: string;
  /** The channel on which its changes are published. */
  readonly channel: string;
  /** The watch's name. */
  readonly name: string;
  /** What the watch publishes for a row. */
  readonly payload: Payload;
  /** The columns that identify a row; null for the primary key. */
  readonly key: readonly string[] | null;
  /**
   * Creates a consumer's handler that receives changes. A notification becomes a dead letter in
   * three cases, because a retry could not help: it is not a change of this table, its rows have
   * another payload kind than declared, or they do not match the schema.
   *
   * A change also becomes a dead letter if its row was larger than the watch's `maxBytes` and was
   * not published. Give `oversized` to handle such changes, for example by reading the row by its
   * `id`.
   */
  handler(
    handle: (change: Change<Row, Payload, Id, Part>, context: HandlerContext) => unknown,
    options?: {
      readonly oversized?: (change: OversizedChange<Id>, context: HandlerContext) => unknown;
    },
  ): Handler;
  /**
   * Turns a notification into a change, for use with `subscribe` or `handleBatch`. Check
   * `truncated` first: if it is true, there are no rows.
   *
   * @throws {DeadLetter} In the cases that the handler's documentation names.
   */
  change(
    notification: Notification,
  ): Promise<Change<Row, Payload, Id, Part> | OversizedChange<Id>>;
  /** Whether a notification is a change of this table. For channels that several tables share. */
  matches(notification: Notification): boolean;
}

/** The type of the changes of a watched table. */
export type ChangeOf<Table> = Table extends Watched<infer Row, infer Payload, infer Id, infer Part>
  ? Change<Row, Payload, Id, Part>
  : never;
