/**
 * The options of telemetry.
 *
 * @module
 */

import { checkedValues, either, oneOf, type Rules } from "../option_rules.ts";

/** Options of {@linkcode telemetry}. */
export interface TelemetryOptions {
  /** Whether to make spans. @default {true} */
  readonly traces?: boolean;
  /** Whether to measure. @default {true} */
  readonly metrics?: boolean;
  /**
   * The parent of a handler's span. `"none"`: it begins a trace of its own, linked to the span that
   * published. `"message"`: it is a child of that span, in one trace with it. A handler of batches
   * always begins a trace of its own.
   * @default {"none"}
   */
  readonly parent?: "none" | "message";
  /** Whether spans name keys, as `hark.key`. Keys may be personal data. @default {false} */
  readonly keys?: boolean;
  /**
   * Whether spans tell the text of errors and their stack. It may hold what a notification is about.
   * Without it they tell the kind of error, as `error.type`.
   * @default {false}
   */
  readonly errors?: boolean;
  /** Whether each storing of progress has a span, `settle`. @default {false} */
  readonly settle?: boolean;
}

/** The options with their defaults. */
export type Settings = Required<TelemetryOptions>;

/** The rules for each option. */
export const telemetryRules = {
  traces: either(true),
  metrics: either(true),
  parent: oneOf("none", "message"),
  keys: either(false),
  errors: either(false),
  settle: either(false),
} satisfies Rules;

/** Checks the options. @throws {HarkError} `BAD_OPTION`. */
export function settingsOf(options: TelemetryOptions): Settings {
  return checkedValues("telemetry", telemetryRules, options);
}
