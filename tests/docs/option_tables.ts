/**
 * The tables in the reference that are made: of options, by the rules that check them and the first
 * sentence of each option's comment, and of fields, by their comments.
 *
 * @module
 */

import {
  consumerRules,
  drainRules,
  keyLimitRules,
  limitRules,
  rateRules,
  retryRules,
  runRules,
  subscribeRules,
} from "../../src/consume/option_table.ts";
import { monitorRules } from "../../src/metrics/options.ts";
import { telemetryRules } from "../../src/otel/options.ts";
import { streamsRules } from "../../src/streams/options.ts";
import type { Rule, Rules } from "../../src/option_rules.ts";
import { type Declaration, defaultOf, type JsDoc, membersOf } from "./symbols.ts";

/** The interfaces whose tables are made, with their rules. */
const made: Readonly<Record<string, Rules>> = {
  ConsumerOptions: consumerRules,
  RetryOptions: retryRules,
  LimitOptions: limitRules,
  KeyLimitOptions: keyLimitRules,
  RateOptions: rateRules,
  RunOptions: runRules,
  DrainOptions: drainRules,
  SubscribeOptions: subscribeRules,
  StreamsOptions: streamsRules,
  TelemetryOptions: telemetryRules,
  MonitorOptions: monitorRules,
};

/** The interfaces whose fields are listed, each with the first paragraph of its comment. */
const listed = ["ConsumerFilter", "Drained", "TestDatabase", "NotificationFacts", "TestContext"];

/** A page's lines with the tables below the headings of these interfaces as they should be. */
export function withOptionTables(
  lines: readonly string[],
  symbols: ReadonlyMap<string, Declaration>,
): string[] {
  const changed = [...lines];
  const put = (name: string, table: (declaration: Declaration) => string[]) => {
    const heading = changed.indexOf(`## \`${name}\``);
    if (heading === -1) return;
    const first = changed.findIndex((line, i) => i > heading && line.startsWith("|"));
    const end = changed.findIndex((line, i) => i > first && !line.startsWith("|"));
    changed.splice(first, end - first, ...table(symbols.get(name)!));
  };
  for (const [name, rules] of Object.entries(made)) {
    put(name, (declaration) => tableOf(name, rules, declaration));
  }
  for (const name of listed) put(name, fieldsOf);
  return changed;
}

function fieldsOf(declaration: Declaration): string[] {
  const rows = membersOf(declaration).map(({ name, jsDoc }) => {
    const otherwise = defaultOf(jsDoc)?.replaceAll(/^\{|\}$/g, "");
    const [first = ""] = (jsDoc?.doc ?? "").split("\n\n");
    const text = first.replaceAll(/\s+/g, " ").replace(/ ?@default.*$/, "").trim();
    return [
      `\`${name}\``,
      `${text}${otherwise === undefined ? "" : ` Default: \`${otherwise}\`.`}`,
    ];
  });
  return aligned([["name", "what it is"], ...rows]);
}

function tableOf(name: string, rules: Rules, declaration: Declaration): string[] {
  const comments = new Map(membersOf(declaration).map((one) => [one.name, one.jsDoc]));
  const rows = Object.entries(rules).map(([option, rule]) => {
    try {
      return rowOf(option, rule, comments.get(option));
    } catch (error) {
      throw new Error(`${name}.${option}: ${(error as Error).message}`);
    }
  });
  return aligned([["option", "default", "bounds", "effect"], ...rows]);
}

function rowOf(option: string, rule: Rule, comment: JsDoc | undefined): string[] {
  const text = (comment?.doc ?? "").replaceAll(/\s+/g, " ").replace(/ ?@default.*$/, "");
  const said = defaultOf(comment)?.replaceAll(/^\{|\}$/g, "");
  const bounds = boundsOf(rule);
  if (/^(number|duration)$/.test(rule.kind) && !text.includes(bounds)) {
    throw new Error(`the comment does not say "${bounds}"`);
  }
  const otherwise = defaultText(rule);
  if (said !== undefined && !said.replaceAll("`", "").startsWith(otherwise.replaceAll("`", ""))) {
    throw new Error(`the comment says @default {${said}}, but the default is ${otherwise}`);
  }
  const isNumber = rule.kind === "number" || rule.kind === "duration";
  if (said === undefined && isNumber && rule.otherwise !== undefined) {
    throw new Error(`the comment does not say @default {${otherwise}}`);
  }
  const sentence = /^.*?[.](?= |$)/.exec(text)?.[0] ?? text;
  return [
    `\`${option}\``,
    grouped(isNumber ? said ?? otherwise : otherwise) +
    (rule.kind === "duration" && /^\d+$/.test(said ?? otherwise) ? " ms" : ""),
    grouped(bounds),
    isNumber ? sentence.replace(`, ${bounds}`, "") : sentence,
  ];
}

function defaultText(rule: Rule): string {
  switch (rule.kind) {
    case "number":
    case "duration":
      if (rule.isRequired) return "required";
      return rule.otherwise === undefined ? "none" : String(rule.otherwise);
    case "choice":
      return `\`"${rule.choices[0]}"\``;
    case "switch":
      return `\`${rule.otherwise}\``;
    case "function":
      return rule.isRequired ? "required" : "none";
    case "other":
      return rule.otherwise;
  }
}

function boundsOf(rule: Rule): string {
  switch (rule.kind) {
    case "number": {
      const { least, most, endless } = rule;
      if (most === Number.MAX_SAFE_INTEGER) return `at least ${least}`;
      return `${least} to ${most}${endless ? " or `Infinity`" : ""}`;
    }
    case "duration":
      return `${timeText(rule.least)} to ${timeText(rule.most)}`;
    case "choice":
      return rule.choices.map((one) => `\`"${one}"\``).join(", ");
    case "switch":
      return "";
    case "function":
      return "a function";
    case "other":
      return rule.bounds;
  }
}

function timeText(ms: number): string {
  const days = ms / 86_400_000;
  if (ms === 0 || !Number.isInteger(days)) return ms === 0 ? "0" : `${ms} ms`;
  return days === 1 ? "1 day" : `${days} days`;
}

/** Numbers as people read them: 10,000. */
function grouped(text: string): string {
  return text.replaceAll(/\d{4,}/g, (digits) => Number(digits).toLocaleString("en-US"));
}

/** A table as `deno fmt` writes it. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const [head, ...rest] = rows;
  return [line(head!), line(widths.map((width) => "-".repeat(width))), ...rest.map(line)];
}
