/**
 * What can be set about `hark listen` from outside: by a flag, or by a variable of the environment.
 * A flag counts more than a variable, a variable more than the code of a consumer, and that more than
 * the default.
 *
 * @module
 */

import { formatMessage } from "@optique/core/message";
import { map, optional } from "@optique/core/modifiers";
import type { Parser } from "@optique/core/parser";
import { choice, type ValueParser } from "@optique/core/valueparser";
import { consumerRules } from "../../consume/option_table.ts";
import type { ConsumerOptions } from "../../consume/options.ts";
import { longestTimer } from "../../duration.ts";
import { given } from "../../given.ts";
import { kind, list, needed, number, refuse, several, toggle } from "../args/options.ts";
import { surroundings } from "../process/surroundings.ts";
import { duration } from "../args/values.ts";
import { address } from "./probes.ts";

/** Where a value comes from. */
export type Source = "flag" | "environment" | "code" | "default";

/** A value, and where it comes from. */
export interface Setting<T = unknown> {
  /** The value that counts. */
  readonly value: T;
  /** What set it. */
  readonly from: Source;
  /** The flag or the variable that set it. */
  readonly name?: string;
}

/** One thing that can be set. */
interface Kind<T, Otherwise extends T | undefined = T | undefined> {
  readonly flag: `--${string}`;
  /** The default. Undefined: consumers, or `connect`, have their own. */
  readonly otherwise: Otherwise;
  /** Reads the text of a flag or a variable. */
  readonly text: ValueParser<"sync", T>;
  /** Reads the flag. Undefined if it is not there. */
  readonly parser: Parser<"sync", T | undefined, unknown>;
}

function one<T, Otherwise extends T | undefined = undefined>(
  flag: `--${string}`,
  text: ValueParser<"sync", T>,
  description: string,
  otherwise: Otherwise = undefined as Otherwise,
): Kind<T, Otherwise> {
  const parser = optional(needed(flag, text, description)) as unknown as Kind<T>["parser"];
  return { flag, text, otherwise, parser };
}

/** A list, given once or more often. */
function many(
  flag: `--${string}`,
  metavar: "IDS" | "CHANNELS",
  description: string,
): Kind<readonly string[], undefined> {
  const text = list(metavar);
  const parser = map(
    several(needed(flag, text, description)),
    (lists) => lists?.flat(),
  ) as unknown as Kind<readonly string[]>["parser"];
  return { flag, text, otherwise: undefined, parser };
}

const truth = kind("BOOLEAN", false, (input) => {
  if (input === "true" || input === "1") return true;
  if (input === "false" || input === "0") return false;
  throw new Error(`BOOLEAN is ${JSON.stringify(input)}. Give true or false.`);
});

/** A switch. Without the flag, the variable decides. */
function onOff(flag: `--${string}`, description: string): Kind<boolean, boolean> {
  const parser = map(toggle(flag, description), (on) => on || undefined) as unknown as Kind<
    boolean
  >["parser"];
  return { flag, text: truth, otherwise: false, parser };
}

const { pollInterval, pageSize, idle, idleAfter } = consumerRules;
/** The options of consumers that can be set. */
const ofConsumers = { pollInterval, pageSize, idle, idleAfter };

/** Everything that can be set, by name. */
const kinds = {
  consumers: many(
    "--consumers",
    "IDS",
    "Run only these, separated by commas or spaces. Repeatable.",
  ),
  excluded: many("--exclude-consumers", "IDS", "Run all except these."),
  channels: many(
    "--channels",
    "CHANNELS",
    "Run only consumers that read one of these channels. Each reads all of its channels.",
  ),
  workers: one(
    "--workers",
    number("N", { least: 1, most: 64 }),
    "How many threads run the consumers, 1 (default) to 64: one thread uses one core. A thread " +
      "that ends is started again. They share the partitions of each consumer.",
    1,
  ),
  skipUnread: onOff(
    "--skip-unread",
    "Begin with what is published from now on. What a consumer has not read is skipped, and what " +
      "it will retry becomes dead letters, unless another worker serves it.",
  ),
  pollInterval: one(
    "--poll-interval",
    duration("--poll-interval", ofConsumers.pollInterval),
    "How often each consumer looks without being woken. Default: its own option, or 3s.",
  ),
  pageSize: one(
    "--page-size",
    number("N", ofConsumers.pageSize),
    "The most notifications in one read. Default: the consumer's own option, or 500.",
  ),
  idle: one(
    "--idle",
    choice(ofConsumers.idle.choices, { metavar: "MODE" }),
    "What each consumer does without work: poll, or sleep until it is woken, so that a server that " +
      "suspends may do so. Default: its own option, or poll.",
  ),
  idleAfter: one(
    "--idle-after",
    duration("--idle-after", ofConsumers.idleAfter),
    "How long a consumer must have had nothing to do before it sleeps. Default: its own option, or 1m.",
  ),
  maxReconnectDelay: one(
    "--max-reconnect-delay",
    duration("--max-reconnect-delay", { least: 10, most: longestTimer }),
    "The longest wait between two tries to connect again. Default: 5s.",
    5000,
  ),
  noListen: onOff(
    "--no-listen",
    "Poll only, without LISTEN: for a pooler in transaction mode, which passes none on. The parameter " +
      "listen=off of the database URL does the same.",
  ),
  metrics: one(
    "--metrics",
    address,
    "Answer /metrics, /livez and /readyz on this port, for this machine only. For others: HOST:PORT, such " +
      "as 0.0.0.0:9464. 0 for a free port. Default: none.",
  ),
  logLevel: one(
    "--log-level",
    choice(["debug", "info", "warning", "error"], { metavar: "LEVEL" }),
    "The lowest level to log: debug, info (default), warning or error.",
    "info",
  ),
  logFormat: one(
    "--log-format",
    choice(["text", "json"], { metavar: "FORMAT" }),
    "The form of log lines on standard error: text (default) or json.",
    "text",
  ),
} as const;

type Kinds = typeof kinds;
type Name = keyof Kinds;
type ValueOf<N extends Name> = Kinds[N] extends Kind<infer T> ? T : never;

/** What the flags gave, by name. */
export type Flags = { readonly [N in Name]?: ValueOf<N> };

type OtherwiseOf<N extends Name> = Kinds[N] extends { otherwise: infer T } ? T : never;

/** Everything that can be set, with where it comes from. */
export type Settings = { readonly [N in Name]: Setting<ValueOf<N> | OtherwiseOf<N>> };

const names = Object.keys(kinds) as Name[];

/** The parsers of the flags, by name. */
export const flags: { readonly [N in Name]: Parser<"sync", ValueOf<N> | undefined, unknown> } =
  Object.fromEntries(names.map((name) => [name, kinds[name].parser])) as never;

/** The variable that sets what a flag sets: HARK_POLL_INTERVAL for --poll-interval. */
export function variableOf(flag: string): string {
  return `HARK_${flag.slice(2).toUpperCase().replaceAll("-", "_")}`;
}

/** The variables that count, in the order of the flags. */
export const settingVariables: readonly string[] = names.map((name) =>
  variableOf(kinds[name].flag)
);

/**
 * Settles what counts: the flag, else the variable, else the default. An empty variable counts as not
 * set, and so does one that the process may not read.
 *
 * @throws {HarkError} `BAD_OPTION` for a variable with a wrong value.
 */
export function settingsOf(given: Flags): Settings {
  return Object.fromEntries(names.map((name) => [name, settingOf(name, given)])) as never;
}

function settingOf(name: Name, given: Flags): Setting {
  const { flag, text, otherwise } = kinds[name] as Kind<unknown>;
  if (given[name] !== undefined) return { value: given[name], from: "flag", name: flag };
  const variable = variableOf(flag);
  const input = surroundings().variable(variable);
  if (input === undefined || input === "") return { value: otherwise, from: "default" };
  const read = text.parse(input);
  if (read.success) return { value: read.value, from: "environment", name: variable };
  // The message begins with the flag's own word for the value, and the value.
  const said = formatMessage(read.error, { colors: false, quotes: false })
    .replace(/^\S+ is (?:"(?:[^"\\]|\\.)*"|empty)\. /, "")
    .replace(/^Expected one of (.+), but got .+$/, "Give one of $1.");
  refuse(`${variable} is ${JSON.stringify(input)}`, `${said} Correct the variable, or unset it.`);
}

/** Options of consumers that count more than their code. They can be sent to another thread. */
export type Overrides = Pick<
  ConsumerOptions,
  "pollInterval" | "pageSize" | "from" | "idle" | "idleAfter"
>;

/** What is set about every consumer, whatever its code says. */
export function overridesOf(
  { pollInterval, pageSize, skipUnread, idle, idleAfter }: Settings,
): Overrides {
  return given({
    pollInterval: pollInterval.value,
    pageSize: pageSize.value,
    idle: idle.value,
    idleAfter: idleAfter.value,
    from: skipUnread.value ? "now" as const : undefined,
  });
}

/** What counts for one consumer. */
export function settingsOfConsumer(
  settings: Settings,
  consumer: Pick<ConsumerOptions, keyof typeof ofConsumers>,
): Record<keyof typeof ofConsumers, Setting> {
  const names = Object.keys(ofConsumers) as (keyof typeof ofConsumers)[];
  return Object.fromEntries(names.map((name) => {
    const value = consumer[name];
    const rule = ofConsumers[name];
    const otherwise = "choices" in rule ? rule.choices[0] : rule.otherwise;
    if (settings[name].from !== "default") return [name, settings[name]];
    return [
      name,
      value === undefined ? { value: otherwise, from: "default" } : { value, from: "code" },
    ];
  })) as Record<keyof typeof ofConsumers, Setting>;
}
