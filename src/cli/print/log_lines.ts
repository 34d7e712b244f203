/**
 * Log lines, on standard error. The package prints its warnings itself until a program configures
 * LogTape, as this program does.
 *
 * @module
 */

import { configure, getJsonLinesFormatter, type LogRecord } from "@logtape/logtape";
import { placesOf } from "../../log/text.ts";
import { paintError, visible, visibleLines } from "./style.ts";
import { surroundings } from "../process/surroundings.ts";
import { durationText } from "./text.ts";

/** What `--log-level` and `--log-format` set. */
export interface LogOptions {
  /** The lowest level that is logged; each command has its own default. */
  readonly logLevel?: "debug" | "info" | "warning" | "error" | undefined;
  /** The form of a record. */
  readonly logFormat: "text" | "json";
}

/** Records about a stop that takes time. They are written at every log level. */
const stops = ["hark", "consumer", "stop"];

const encoder = new TextEncoder();

/**
 * Sends log records to standard error.
 *
 * @param otherwise The lowest level unless `--log-level` is given.
 * @param worker Names the thread that logs, if there are several.
 */
export async function configureLogs(
  { logLevel, logFormat }: LogOptions,
  otherwise: "info" | "warning" = "warning",
  worker?: string,
): Promise<void> {
  const jsonLines = getJsonLinesFormatter();
  const format = (record: LogRecord) =>
    logFormat !== "json"
      ? line(record, worker)
      : `${visible(jsonLines(worker === undefined ? record : named(record, worker)).trimEnd())}\n`;
  const stderr = (record: LogRecord) => {
    try {
      surroundings().stderr.writeSync(encoder.encode(format(record)));
    } catch {
      // Standard error is closed; the work goes on.
    }
  };
  await configure({
    reset: true,
    sinks: { stderr },
    loggers: [
      { category: [], sinks: ["stderr"], lowestLevel: logLevel ?? otherwise },
      { category: stops, sinks: ["stderr"], lowestLevel: "info", parentSinks: "override" },
      { category: ["logtape", "meta"], sinks: [], lowestLevel: "error", parentSinks: "override" },
    ],
  });
}

function named(record: LogRecord, worker: string): LogRecord {
  return { ...record, properties: { worker, ...record.properties } };
}

function line(record: LogRecord, worker?: string): string {
  const { timestamp, level, category, message } = record;
  const words = visibleLines(readable(message));
  const from = worker === undefined ? "" : `${worker} `;
  if (category.join() === stops.join()) return `${from}${words}; Ctrl-C again ends at once\n`;
  const time = paintError("dim", new Date(timestamp).toISOString().slice(11, 23));
  const style = level === "error" || level === "fatal"
    ? "red"
    : level === "warning"
    ? "yellow"
    : "dim";
  const { error } = record.properties;
  const places = error instanceof Error ? placesOf(error) : [];
  const where = places.map((place) => `    ${paintError("dim", visible(place))}\n`).join("");
  return `${time} ${paintError(style, level)} ${from}${category.join(".")}: ${words}\n${where}`;
}

/** A record's sentence. A number of milliseconds becomes a duration that people read. */
function readable(message: readonly unknown[]): string {
  let text = "";
  for (let i = 0; i < message.length; i++) {
    const [part, next] = [message[i], message[i + 1]];
    if (typeof part === "number" && typeof next === "string" && /^ ms\b/.test(next)) {
      text += durationText(part) + next.slice(" ms".length);
      i++;
    } else text += typeof part === "string" ? part : show(part);
  }
  return text;
}

function show(value: unknown): string {
  if (value instanceof Error) return value.message;
  return typeof value === "object" ? Deno.inspect(value) : String(value);
}
