/**
 * What Hark says while a test breaks something.
 *
 * @module
 */

import { configureSync, type LogRecord } from "@logtape/logtape";
import { Inbox, until, type Wait } from "../../harness/mod.ts";

/** What was logged in this process since it was imported. */
export const logged = new Inbox<LogRecord>();

configureSync({
  sinks: { inbox: logged.push },
  loggers: [
    { category: "hark", sinks: ["inbox"], lowestLevel: "debug" },
    { category: ["logtape", "meta"], sinks: [], lowestLevel: "error" },
  ],
  reset: true,
});

/** The sentence of a record. */
export function sentence(record: LogRecord): string {
  return record.message.map((part) => typeof part === "string" ? part : String(part)).join("");
}

/** Waits for a record of this level, from `since` on, whose sentence matches. */
export async function said(
  level: LogRecord["level"],
  pattern: RegExp,
  since: number,
  wait: Wait = {},
): Promise<LogRecord> {
  const what = `a log record "${level}" like ${pattern}`;
  const found = await until(
    () =>
      logged.items.find((record) =>
        record.timestamp >= since && record.level === level && pattern.test(sentence(record))
      ),
    { what, ...wait },
  );
  return found!;
}
