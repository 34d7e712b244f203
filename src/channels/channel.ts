/**
 * Channels whose payloads have a type, checked by a schema.
 *
 * @module
 */

import { bad, channelName } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { notify } from "../publish/notify.ts";
import type { NotifyOptions } from "../publish/options.ts";
import {
  isSchema,
  type SchemaInput,
  type SchemaOutput,
  type StandardSchema,
} from "../standard_schema.ts";
import { type Channel, type ChannelKey, type Definition, definitionKey } from "./kind.ts";

/**
 * Declares a channel with a type for its payloads. With a schema, publishers give the schema's
 * input, which is checked before anything is written, and handlers get the schema's output. The
 * schema is one of any library that implements Standard Schema (https://standardschema.dev), such as
 * Zod, Valibot or ArkType. Without a schema, `channel<Order>("orders")` is trusted and not checked.
 *
 * The input is stored as JSON, with the channel's version in the header `hark-version`. So the
 * schema has to take JSON: text for a date, an array for a set.
 *
 * To change the schema, keep the old one with `from`. Payloads of that version are then upgraded as
 * they are read. Payloads without a version, published from SQL or by a trigger, are read by the
 * newest schema that accepts them. A payload of a version that this program does not know yet is no
 * failure: its key waits for a newer worker.
 *
 * @param name The channel: 1 to 200 characters of any kind.
 * @throws {HarkError} `BAD_CHANNEL`; `BAD_OPTION` if the schema is none.
 * @example
 * ```ts
 * import { channel, connect, Consumer, on, type StandardSchema } from "@hark/postgres";
 *
 * declare const OrderV1: StandardSchema<{ id: string; total: number }>; // of your library
 * declare const OrderV2: StandardSchema<{ id: string; total: number; currency: string }>;
 *
 * const paid = channel("orders.paid", OrderV2)
 *   .from(OrderV1, (old) => ({ ...old, currency: "EUR" }))
 *   .key((order) => order.id);
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await paid.notify(db, { id: "o-1", total: 10, currency: "EUR" });
 * await new Consumer(db, {
 *   id: "billing",
 *   handle: on(paid, (order) => console.log(order.id, order.currency)),
 * }).run();
 * ```
 */
export function channel<Schema extends StandardSchema, Name extends string>(
  name: Name,
  schema: Schema,
): Channel<SchemaInput<Schema>, SchemaOutput<Schema>, Name>;
/** With a type alone, which is not checked. */
export function channel<Payload, Name extends string = string>(
  name: Name,
): Channel<Payload, Payload, Name>;
export function channel(name: string, schema?: StandardSchema): unknown {
  channelName(name);
  if (arguments.length > 1) checkSchema(schema);
  return new TypedChannel({ name, versions: [{ schema, upgrade: undefined }], key: undefined });
}

function checkSchema(schema: unknown): void {
  if (isSchema(schema)) return;
  bad("schema", schema, "Give a schema of a library that follows Standard Schema, such as Zod.");
}

function checkFunction(name: string, value: unknown): void {
  if (typeof value !== "function") bad(name, value, "Give a function.");
}

class TypedChannel implements Channel<unknown, unknown> {
  readonly name: string;
  readonly version: number;
  declare readonly [definitionKey]: Definition;

  constructor(definition: Definition) {
    this.name = definition.name;
    this.version = definition.versions.length;
    // Not enumerable, so that a channel prints as its name and version.
    Object.defineProperty(this, definitionKey, { value: definition });
  }

  async notify(db: Queryable, input: unknown, options?: NotifyOptions): Promise<number> {
    return await notify(db, this, input, options);
  }

  from(schema: StandardSchema, upgrade: unknown): TypedChannel {
    checkSchema(schema);
    checkFunction("upgrade", upgrade);
    const { versions, ...rest } = this[definitionKey];
    const older = { schema, upgrade: upgrade as (old: unknown) => unknown };
    return new TypedChannel({ ...rest, versions: [older, ...versions] });
  }

  key(of: (payload: unknown) => ChannelKey): TypedChannel {
    checkFunction("key", of);
    return new TypedChannel({ ...this[definitionKey], key: of });
  }
}
