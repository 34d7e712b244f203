/**
 * What a typed channel is, for those that publish to it or read it.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import type { NotifyOptions } from "../publish/options.ts";
import type { SchemaInput, SchemaOutput, StandardSchema } from "../standard_schema.ts";

/**
 * A channel whose payloads have a type, made by `channel()`. It never changes: `from` and `key`
 * return a new one.
 *
 * - `Input`: what publishers give.
 * - `Output`: what handlers get.
 * - `Name`: the channel's name.
 * - `Oldest`: what an upgrade from the next older version has to return.
 */
export interface Channel<Input, Output = Input, Name extends string = string, Oldest = Input> {
  /** The channel's name. */
  readonly name: Name;
  /** The version of what is published: the number of `from`, plus one. */
  readonly version: number;
  /**
   * Publishes a notification, as `notify(db, channel, input, options)` does.
   *
   * @throws {HarkError} `BAD_PAYLOAD`, before anything is sent, if the input does not fit the schema.
   */
  notify(db: Queryable, input: Input, options?: NotifyOptions): Promise<number>;
  /**
   * Adds the next older version: its schema, and how what that schema makes of a payload becomes
   * the input of the version after it. Call it again for the version before that.
   */
  from<Older extends StandardSchema>(
    schema: Older,
    upgrade: (old: SchemaOutput<Older>) => Oldest | Promise<Oldest>,
  ): Channel<Input, Output, Name, SchemaInput<Older>>;
  /**
   * Sets the key of each notification, from what handlers get. Null is no key, and undefined is
   * refused. The option `key` wins over it.
   */
  key(of: (payload: Output) => ChannelKey): Channel<Input, Output, Name, Oldest>;
}

/** A key. Null for none. */
export type ChannelKey = string | number | bigint | null;

/** Any typed channel. */
// deno-lint-ignore no-explicit-any -- of whatever types
export type AnyChannel = Channel<any, any, any, any>;

/** What publishers give to a channel. */
// deno-lint-ignore no-explicit-any -- the other types do not matter
export type ChannelInput<Given> = Given extends Channel<infer Input, any, any, any> ? Input
  : unknown;

/** What handlers of a channel get. */
// deno-lint-ignore no-explicit-any -- the other types do not matter
export type ChannelOutput<Given> = Given extends Channel<any, infer Output, any, any> ? Output
  // deno-lint-ignore no-explicit-any -- a channel without a type
  : any;

/**
 * What a consumer's handler gets: the payload that is named, else what the typed channels give that
 * the consumer reads.
 */
export type PayloadOf<Payload, Given> = 0 extends 1 & Payload
  ? Given extends readonly (infer One)[] ? ChannelOutput<One> : ChannelOutput<Given>
  : Payload;

/** The name of a channel, if the compiler knows it, else never. */
export type ChannelName<Given> = Given extends { readonly name: infer Name }
  ? string extends Name ? never : Name & string
  : string extends Given ? never
  : Given & string;

/** One version of a channel. */
export interface Version {
  /** Undefined if only the type is known: then everything fits. */
  readonly schema: StandardSchema | undefined;
  /** Makes the input of the next version. Undefined for the newest. */
  readonly upgrade: ((old: unknown) => unknown) | undefined;
}

/** A typed channel as its readers and publishers use it. */
export interface Definition {
  readonly name: string;
  /** From the oldest, which is version 1, to the newest. */
  readonly versions: readonly Version[];
  readonly key: ((payload: unknown) => ChannelKey) | undefined;
}

/**
 * The property that holds a channel's definition. A registered symbol: a module of channels may have
 * imported another copy of this package than the program that uses them.
 */
export const definitionKey: unique symbol = Symbol.for("@hark/postgres:channel:1") as never;

/** The definition of a typed channel. Undefined for anything else. */
export function definitionOf(value: unknown): Definition | undefined {
  return typeof value === "object" && value !== null
    ? (value as { [definitionKey]?: Definition })[definitionKey]
    : undefined;
}

/** The header that holds the version of a payload. */
export const versionHeader = "hark-version";
