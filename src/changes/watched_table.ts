/**
 * What a watched table is, as a type: of its rows, its key and its payload.
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

/** Whether a type is no union. */
export type IsOne<Type, Whole = Type> = Type extends unknown ? [Whole] extends [Type] ? true : false
  : never;

/** What is told of an update with the payload `"diff"`: no schema can check a part of a row. */
export type UncheckedPart<Row> = { readonly [Name in Column<Row>]?: unknown };

/** A watched table, made by {@linkcode watched}: for {@linkcode watch}, for consumers, for the compiler. */
export interface Watched<
  Row,
  Payload extends WatchPayload = "full",
  Id = unknown,
  Part = Partial<Row>,
> {
  /** The table, as it was named. */
  readonly table: string;
  /** The channel its changes are published on. */
  readonly channel: string;
  /** The watch's name. */
  readonly name: string;
  /** What is published of a row. */
  readonly payload: Payload;
  /** The columns that tell a row; null for the primary key. */
  readonly key: readonly string[] | null;
  /**
   * A handler for a consumer, of changes. What is no change of the table, or has rows of another kind
   * than was told, or that do not fit the schema, becomes a dead letter: to try again cannot help.
   *
   * So does a change whose row was larger than the watch's `maxBytes` and was not published, unless
   * `oversized` handles those, such as by reading the row by its `id`.
   */
  handler(
    handle: (change: Change<Row, Payload, Id, Part>, context: HandlerContext) => unknown,
    options?: {
      readonly oversized?: (change: OversizedChange<Id>, context: HandlerContext) => unknown;
    },
  ): Handler;
  /**
   * The change that a notification tells of, such as for `subscribe` or `handleBatch`. Ask
   * `truncated` first: with it there are no rows.
   *
   * @throws {DeadLetter} as the handler.
   */
  change(
    notification: Notification,
  ): Promise<Change<Row, Payload, Id, Part> | OversizedChange<Id>>;
  /** Whether a notification tells of a change of this table, where several share a channel. */
  matches(notification: Notification): boolean;
}

/** The changes of a watched table, as a type. */
export type ChangeOf<Table> = Table extends Watched<infer Row, infer Payload, infer Id, infer Part>
  ? Change<Row, Payload, Id, Part>
  : never;
