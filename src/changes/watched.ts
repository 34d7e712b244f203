/**
 * Watched tables with typed rows.
 *
 * @module
 */

import type { SchemaInput, SchemaOutput, StandardSchema } from "../standard_schema.ts";
import { bad, channelName, knownOptions, show } from "../check.ts";
import type { Handler, HandlerContext } from "../consume/handler.ts";
import type { Notification } from "../consume/notification.ts";
import { DeadLetter } from "../consume/retry.ts";
import { HarkError } from "../errors.ts";
import type { Column, OversizedChange, WatchPayload } from "./change.ts";
import { columns, payloadKind, watchName } from "./options.ts";
import { type Expected, isOf, readChange } from "./read.ts";
import { nameParts, tableName } from "./table.ts";
import type { IdOf, UncheckedPart, Watched } from "./watched_table.ts";

/** Options of {@linkcode watched}. */
export interface WatchedOptions<Payload extends WatchPayload, Key extends string> {
  /** The channel on which the changes are published. @default `schema.table` */
  readonly channel?: string;
  /** The watch's name. A table may have several watches. @default {"watch"} */
  readonly name?: string;
  /** What the watch publishes for a row. @default {"full"} */
  readonly payload?: Payload;
  /** The columns that identify a row. @default the primary key */
  readonly key?: Key | readonly Key[];
}

/**
 * Declares a watched table, with a type for its rows or with a schema that checks each row.
 *
 * A type is trusted and not checked. A schema is checked: one from any library that implements
 * Standard Schema (https://standardschema.dev), such as Zod, Valibot or ArkType. The schema sees a
 * row as it was published: dates are text, and numbers beyond 2^53 have lost digits. The rows
 * before and after a change must both match it.
 *
 * With a second type, `watched<User, "id">`, or with `key` beside a schema, `id` has the type of
 * that column. With several columns it has the type of an object. `payload` must be what the watch
 * publishes, so pass the result to {@linkcode watch}.
 *
 * @param table The table with its schema, such as `"public.users"`. The channel's default name is
 * made of both.
 * @throws {HarkError} `BAD_OPTION`, `BAD_CHANNEL`.
 * @example
 * ```ts
 * import { connect, Consumer, watch, watched } from "@hark/postgres";
 *
 * interface User {
 *   id: number;
 *   email: string;
 * }
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const users = watched<User, "id">("public.users");
 * await watch(db, users);
 *
 * await new Consumer(db, {
 *   id: "mailing",
 *   channels: users.channel,
 *   handle: users.handler((change) => {
 *     if (change.isInsert()) console.log("welcome", change.new.email);
 *     if (change.isDelete()) console.log("goodbye", change.old.email);
 *   }),
 * }).run();
 * ```
 */
export function watched<
  Schema extends StandardSchema,
  const Payload extends WatchPayload = "full",
  const Key extends Column<SchemaOutput<Schema>> = never,
>(
  table: string,
  options: WatchedOptions<Payload, Key> & {
    /** The schema that each row must match. */
    readonly row: Schema;
  },
): Watched<
  SchemaOutput<Schema>,
  Payload,
  IdOf<SchemaInput<Schema>, Key>,
  UncheckedPart<SchemaOutput<Schema>>
>;
/** With a row type and the payload `"new"`. */
export function watched<Row, Key extends Column<Row> = never>(
  table: string,
  options: WatchedOptions<"new", Column<Row>> & { readonly payload: "new" },
): Watched<Row, "new", IdOf<Row, Key>>;
/** With a row type and the payload `"diff"`. */
export function watched<Row, Key extends Column<Row> = never>(
  table: string,
  options: WatchedOptions<"diff", Column<Row>> & { readonly payload: "diff" },
): Watched<Row, "diff", IdOf<Row, Key>>;
/** With a row type and the payload `"key"`. */
export function watched<Row, Key extends Column<Row> = never>(
  table: string,
  options: WatchedOptions<"key", Column<Row>> & { readonly payload: "key" },
): Watched<Row, "key", IdOf<Row, Key>>;
/** With a row type and the payload `"full"`. */
export function watched<Row = Readonly<Record<string, unknown>>, Key extends Column<Row> = never>(
  table: string,
  options?: WatchedOptions<"full", Column<Row>>,
): Watched<Row, "full", IdOf<Row, Key>>;
export function watched(
  table: string,
  options: WatchedOptions<WatchPayload, string> & { readonly row?: StandardSchema } = {},
): unknown {
  knownOptions("watched", options, ["channel", "name", "payload", "key", "row"]);
  const name = tableName(table);
  const parts = nameParts(name);
  if (parts === undefined || parts.length > 2) {
    bad("table", table, `Give "schema.table". Quote names as in SQL: '"Shop"."Orders"'.`);
  }
  if (parts.length === 1 && options.channel === undefined) {
    throw new HarkError(
      "BAD_OPTION",
      `table ${show(name)} is given without its schema, so its channel is not known`,
      {
        remedy: `Give the schema too, such as "public.${name}", or give the channel.`,
      },
    );
  }
  const { row } = options;
  if (row !== undefined && typeof row?.["~standard"]?.validate !== "function") {
    bad("row", row, "Give a schema of a library that follows Standard Schema, such as Zod.");
  }
  const payload = payloadKind(options.payload);
  const expected: Expected = {
    schema: parts.length === 1 ? undefined : parts[0],
    table: parts.at(-1)!,
    name,
    payload,
    row,
  };
  return new WatchedTable(
    expected,
    channelName(options.channel ?? parts.join(".")),
    watchName(options.name),
    columns("key", typeof options.key === "string" ? [options.key] : options.key),
  );
}

type Handle = (change: unknown, context: HandlerContext) => unknown;

class WatchedTable {
  readonly table: string;
  readonly channel: string;
  readonly name: string;
  readonly payload: WatchPayload;
  readonly key: readonly string[] | null;
  readonly #expected: Expected;

  constructor(
    expected: Expected,
    channel: string,
    name: string,
    key: readonly string[] | null,
  ) {
    this.#expected = expected;
    this.table = expected.name;
    this.channel = channel;
    this.name = name;
    this.payload = expected.payload;
    this.key = key;
  }

  // Not async: a handler that returns synchronously spares the consumer an await.
  handler(handle: Handle, options: { readonly oversized?: Handle } = {}): Handler {
    if (typeof handle !== "function") {
      bad("handle", handle, "Give a function of a change and a context.");
    }
    knownOptions("handler", options, ["oversized"]);
    const { oversized = refuse } = options;
    if (typeof oversized !== "function") bad("oversized", oversized, "Give a function.");
    return (notification, context) => {
      const change = readChange(this.#expected, notification);
      if (change instanceof Promise) return change.then((one) => handle(one, context));
      return change.truncated ? oversized(change, context) : handle(change, context);
    };
  }

  async change(notification: Notification): Promise<unknown> {
    return await readChange(this.#expected, notification);
  }

  matches(notification: Notification): boolean {
    return isOf(this.#expected, notification);
  }
}

function refuse(change: unknown): never {
  const { action, notification, table } = change as OversizedChange;
  throw new DeadLetter(
    "the change comes without its row, which is larger than the maxBytes of the watch. Handle such " +
      `changes with handler(…, { oversized }) (notification ${notification.id}, ${action} of ${table})`,
  );
}
