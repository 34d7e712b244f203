/**
 * Checks what is published on a typed channel.
 *
 * @module
 */

import { show } from "../check.ts";
import { HarkError } from "../errors.ts";
import { headersText, keyText, payloadText } from "../publish/payload.ts";
import type { NotifyOptions } from "../publish/options.ts";
import { issuesText, type StandardSchema } from "../standard_schema.ts";
import { type ChannelKey, type Definition, versionHeader } from "./kind.ts";

/** A notification as the SQL functions take it: checked, as text. */
export interface Encoded {
  readonly channel: string;
  readonly payload: string;
  readonly key: string | null;
  readonly headers: string | null;
}

/**
 * Checks an input by the newest schema of a channel. What is checked is what will be read: the
 * input as JSON. A Date, for example, is text by then.
 *
 * @throws {HarkError} `BAD_PAYLOAD`, with the paths of the issues.
 */
export async function encode(
  { name, versions, key }: Definition,
  input: unknown,
  options: NotifyOptions,
): Promise<Encoded> {
  const payload = payloadText(input);
  const version = versions.length;
  const { schema } = versions.at(-1)!;
  let output: unknown = input;
  if (schema !== undefined) {
    const result = await schema["~standard"].validate(JSON.parse(payload));
    if (result.issues !== undefined) {
      throw new HarkError(
        "BAD_PAYLOAD",
        `the payload for channel ${show(name)} does not fit version ${version} of its schema: ` +
          issuesText(result.issues),
        { remedy: await remedyOf(schema, input), cause: result.issues },
      );
    }
    output = result.value;
  }
  return {
    channel: name,
    payload,
    key: keyText(
      options.key === undefined && key !== undefined ? keyOf(name, key(output)) : options.key,
    ),
    headers: withVersion(options.headers, version),
  };
}

async function remedyOf(schema: StandardSchema, input: unknown): Promise<string> {
  const { issues } = await schema["~standard"].validate(input);
  return issues === undefined
    ? "The value itself fits, but its JSON does not. Let the schema take the JSON, such as text for a Date."
    : "Correct the payload, or give the channel a new version of its schema.";
}

function keyOf(name: string, key: ChannelKey | undefined): ChannelKey {
  if (key !== undefined) return key;
  // A misspelt field, most likely. Without a key, the order would be lost unseen.
  throw new HarkError("BAD_PAYLOAD", `the key of channel ${show(name)} is undefined`, {
    remedy: "Correct the function given to key(), or let it return null for no key.",
  });
}

/** The headers with the version. One of a forwarded notification gives way. */
function withVersion(headers: NotifyOptions["headers"], version: number): string {
  if (headers !== undefined && headers !== null && Object.hasOwn(headers, versionHeader)) {
    const { [versionHeader]: _, ...rest } = headers;
    return withVersion(rest, version);
  }
  const text = headersText(headers) ?? "{}";
  return `${text.slice(0, -1)}${text === "{}" ? "" : ","}"${versionHeader}":${version}}`;
}
