/**
 * The options that choose notifications of the log.
 *
 * @module
 */

import { kind, maybe, words } from "../args/options.ts";
import { place } from "../args/values.ts";
import { parseExact } from "../../exact_json.ts";

/** JSON that a payload is to contain. */
const json = kind<unknown>("JSON", null, (input) => {
  try {
    return parseExact(input);
  } catch {
    throw new Error(`JSON is ${JSON.stringify(input)}. Give JSON, such as '{"city":"Bern"}'.`);
  }
});

/** The options that choose notifications of the log. */
export const filter = {
  key: maybe("--key", words("KEY"), "Only with this key."),
  contains: maybe("--contains", json, "Only if the payload contains this JSON."),
  search: maybe("--search", words("TEXT"), "Only if the payload's text has this in it."),
  from: maybe(
    "--from",
    place,
    "From this id or time on: ISO 8601, in UTC without an offset, or 2h for two hours ago.",
  ),
  to: maybe("--to", place, "Up to this id or time, included."),
};
