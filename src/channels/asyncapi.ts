/**
 * Typed channels as an AsyncAPI 3 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0).
 *
 * @module
 */

import { show } from "../check.ts";
import { messageOf } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import type { StandardSchema } from "../standard_schema.ts";
import { type Definition, versionHeader } from "./kind.ts";

/** JSON Schema, draft 2020-12. */
export type JsonSchema = boolean | { readonly [keyword: string]: unknown };

/** One version of a channel, as a message. */
export interface Message {
  readonly name: string;
  readonly title: string;
  readonly "x-hark-version": number;
  readonly headers: JsonSchema;
  /** Left out if the schema does not describe itself. */
  readonly payload?: JsonSchema;
  /** Why there is no payload. */
  readonly "x-hark-undescribed"?: string;
}

/** The part of AsyncAPI that Hark writes. */
export interface AsyncApi {
  readonly asyncapi: "3.0.0";
  readonly info: { readonly title: string; readonly version: string };
  readonly defaultContentType: "application/json";
  readonly channels: {
    readonly [name: string]: {
      readonly address: string;
      readonly messages: { readonly [version: string]: Message };
    };
  };
}

/**
 * Describes channels, by name.
 *
 * @throws {HarkError} `CONFLICT` if two channels have the same name.
 */
export function asyncApi(definitions: Iterable<Definition>): AsyncApi {
  const known = new Map<string, Definition>();
  for (const one of definitions) {
    const other = known.get(one.name);
    if (other !== undefined && other !== one) {
      throw new HarkError("CONFLICT", `two typed channels have the name ${show(one.name)}`, {
        remedy: "Export one of them only, or rename it.",
      });
    }
    known.set(one.name, one);
  }
  const sorted = [...known.values()].sort((a, b) => a.name < b.name ? -1 : 1);
  return {
    asyncapi: "3.0.0",
    info: { title: "Typed channels of Hark", version: "1.0.0" },
    defaultContentType: "application/json",
    channels: Object.fromEntries(
      sorted.map((one) => [one.name, { address: one.name, messages: messagesOf(one) }]),
    ),
  };
}

function messagesOf({ name, versions }: Definition): Record<string, Message> {
  return Object.fromEntries(versions.map(({ schema }, i) => {
    const version = i + 1;
    return [`v${version}`, {
      name,
      title: `${name}, version ${version}`,
      "x-hark-version": version,
      headers: {
        type: "object",
        properties: { [versionHeader]: { const: version } },
        required: [versionHeader],
      },
      ...described(schema),
    }];
  }));
}

/** What a schema takes, as JSON Schema; or why that is not known. */
function described(
  schema: StandardSchema | undefined,
): Pick<Message, "payload" | "x-hark-undescribed"> {
  if (schema === undefined) return { "x-hark-undescribed": "it has a type only, and no schema" };
  const { vendor, jsonSchema } = schema["~standard"];
  if (typeof jsonSchema?.input !== "function") {
    return { "x-hark-undescribed": `${vendor} does not describe its schemas as JSON Schema` };
  }
  try {
    return { payload: jsonSchema.input({ target: "draft-2020-12" }) };
  } catch (error) {
    // Such as a date: JSON Schema has none.
    return { "x-hark-undescribed": `${vendor} cannot describe it: ${messageOf(error)}` };
  }
}
