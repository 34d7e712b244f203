/**
 * Logs, to standard error. The package itself is silent until a program configures LogTape, which
 * this one does.
 *
 * @module
 */

import { configure, getJsonLinesFormatter, type LogRecord } from "@logtape/logtape";
import { paintError, visibleLines } from "./output.ts";
import { surroundings } from "./surroundings.ts";

/** What `--log-level` and `--log-format` say. */
export interface LogOptions {
  /** The least level that is logged; each command has its own default. */
  readonly logLevel: "debug" | "info" | "warning" | "error" | undefined;
  /** How a record is written. */
  readonly logFormat: "text" | "json";
}

const encoder = new TextEncoder();

/** Sends what is logged to standard error; `worker` names the thread that logs, where there are several. */
export async function configureLogs(
  { logLevel, logFormat }: LogOptions,
  otherwise: "info" | "warning" = "warning",
  worker?: string,
): Promise<void> {
  const jsonLines = getJsonLinesFormatter();
  const format = (record: LogRecord) =>
    logFormat !== "json"
      ? line(record, worker)
      : jsonLines(worker === undefined ? record : named(record, worker));
  const stderr = (record: LogRecord) => {
    try {
      surroundings().stderr.writeSync(encoder.encode(format(record)));
    } catch {
      // Nobody reads standard error; the work goes on.
    }
  };
  await configure({
    reset: true,
    sinks: { stderr },
    loggers: [
      { category: [], sinks: ["stderr"], lowestLevel: logLevel ?? otherwise },
      { category: ["logtape", "meta"], sinks: [], lowestLevel: "error", parentSinks: "override" },
    ],
  });
}

function named(record: LogRecord, worker: string): LogRecord {
  return { ...record, properties: { worker, ...record.properties } };
}

function line({ timestamp, level, category, message }: LogRecord, worker?: string): string {
  const time = new Date(timestamp).toISOString().slice(11, 23);
  const words = visibleLines(
    message.map((part) => typeof part === "string" ? part : show(part)).join(""),
  );
  const style = level === "error" || level === "fatal"
    ? "red"
    : level === "warning"
    ? "yellow"
    : "dim";
  return `${paintError("dim", time)} ${paintError(style, level)} ${
    worker === undefined ? "" : `${worker} `
  }${category.join(".")}: ${words}\n`;
}

function show(value: unknown): string {
  return value instanceof Error
    ? value.message
    : typeof value === "object"
    ? Deno.inspect(value)
    : String(value);
}
