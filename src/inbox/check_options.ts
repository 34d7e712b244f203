/**
 * Checks the options of an inbox.
 *
 * @module
 */

import { bad, consumerName, knownOptions, wholeNumber } from "../check.ts";
import { durationMs } from "../duration.ts";
import { checkNats, natsOptionNames } from "../relay/jetstream/nats_options.ts";
import { isSubject } from "../relay/subject.ts";
import type { InboxOptions } from "./options.ts";

const tenYears = 315_360_000_000;

/** The options with a default, checked and complete. */
export interface CheckedInbox {
  readonly batchSize: number;
  readonly maxAttempts: number;
  /** Milliseconds. */
  readonly dedupe: number | undefined;
}

/**
 * Checks the options and fills in the defaults.
 *
 * @throws {HarkError} `BAD_OPTION`.
 */
export function checkedInbox(options: InboxOptions): CheckedInbox {
  knownOptions("inbox", options, [
    ...natsOptionNames,
    "id",
    "stream",
    "subject",
    "from",
    "map",
    "dedupe",
    "takeOwn",
    "batchSize",
    "maxAttempts",
    "onTaken",
    "onDeadLetter",
  ], '{ id: "shop-in", stream: "SHOP" }');
  checkNats(options);
  const { stream, subject, from, map, takeOwn } = options;
  consumerName(options.id);
  if (typeof stream !== "string" || !isSubject(stream) || stream.includes(".")) {
    bad("stream", stream, "Give the name of a stream, such as ORDERS.");
  }
  if (subject !== undefined && (typeof subject !== "string" || subject === "")) {
    bad("subject", subject, 'Give subjects of the stream, such as "shop.>".');
  }
  if (from !== undefined && from !== "beginning" && from !== "now") {
    bad("from", from, 'Give "beginning" or "now".');
  }
  if (map !== undefined && typeof map !== "function") bad("map", map, "Give a function.");
  if (takeOwn !== undefined && typeof takeOwn !== "boolean") {
    bad("takeOwn", takeOwn, "Give true or false.");
  }
  return {
    batchSize: wholeNumber("batchSize", options.batchSize, 500, 1, 10_000),
    maxAttempts: wholeNumber("maxAttempts", options.maxAttempts, 5, 1, 1_000),
    dedupe: durationMs("dedupe", options.dedupe, undefined, { least: 1, most: tenYears }),
  };
}
