/**
 * Rules for options: of what kind each is, its default and its bounds. A table of rules checks what a
 * caller passes in, and the reference of the documentation is written of it.
 *
 * @module
 */

import { bad, knownOptions, requiredWhole } from "./check.ts";
import { requiredMs } from "./duration.ts";

/** A number, or a duration in milliseconds. */
export interface NumberRule<Otherwise extends number | undefined = number | undefined> {
  readonly kind: "number" | "duration";
  /** The default. */
  readonly otherwise: Otherwise;
  readonly least: number;
  readonly most: number;
  /** Whether `Infinity` may be given too. */
  readonly endless?: true;
  /** Whether fractions may be given. Otherwise it is a whole number. */
  readonly fractions?: true;
  /** Whether it has to be given. */
  readonly isRequired?: true;
}

/** One of several texts, the first by default. */
export interface ChoiceRule<Choice extends string = string> {
  readonly kind: "choice";
  readonly choices: readonly [Choice, ...Choice[]];
}

/** `true` or `false`. */
export interface SwitchRule {
  readonly kind: "switch";
  readonly otherwise: boolean;
}

/** A function. */
export interface FunctionRule {
  readonly kind: "function";
  /** Whether it has to be given. The module that takes it checks that. */
  readonly isRequired?: true;
}

/** Anything else. The module that takes it checks it. */
export interface OtherRule {
  readonly kind: "other";
  /** What may be given, for the reference. */
  readonly bounds: string;
  /** The default, for the reference. */
  readonly otherwise: string;
  /** Whether a value could be meant for it. */
  readonly couldBe: (value: unknown) => boolean;
}

/** A rule for an option. */
export type Rule = NumberRule | ChoiceRule | SwitchRule | FunctionRule | OtherRule;

/** The rules for all options of something, by name. */
export type Rules = Readonly<Record<string, Rule>>;

/** What an option is once it is checked. */
type Value<R extends Rule> = R extends { kind: "number" | "duration"; isRequired: true } ? number
  : R extends NumberRule<infer Otherwise> ? number | Otherwise
  : R extends ChoiceRule<infer Choice> ? Choice
  : R extends SwitchRule ? boolean
  : never;

/** The options with a default of the table, checked and complete. */
export type Values<R extends Rules> = {
  readonly [Name in keyof R as Value<R[Name]> extends never ? never : Name]: Value<R[Name]>;
};

/** A whole number. */
export function number<Otherwise extends number | undefined>(
  otherwise: Otherwise,
  least: number,
  most: number = Number.MAX_SAFE_INTEGER,
): NumberRule<Otherwise> {
  return { kind: "number", otherwise, least, most };
}

/** A duration. The default and the bounds are milliseconds. */
export function duration<Otherwise extends number | undefined>(
  otherwise: Otherwise,
  least: number,
  most: number,
): NumberRule<Otherwise> {
  return { kind: "duration", otherwise, least, most };
}

/** The same number, which has to be given. */
export function required<R extends NumberRule>(rule: R): R & { readonly isRequired: true } {
  return { ...rule, isRequired: true };
}

/** One of several texts, the first by default. */
export function oneOf<Choice extends string>(
  ...choices: readonly [Choice, ...Choice[]]
): ChoiceRule<Choice> {
  return { kind: "choice", choices };
}

/** `true` or `false`. */
export function either(otherwise: boolean): SwitchRule {
  return { kind: "switch", otherwise };
}

/** A function. */
export const aFunction: FunctionRule = { kind: "function" };

/** A function that has to be given. */
export const requiredFunction: FunctionRule = { kind: "function", isRequired: true };

/** What its own module checks. By default it is no function. */
export function other(
  bounds: string,
  otherwise: string = "none",
  couldBe: OtherRule["couldBe"] = (value) => typeof value !== "function",
): OtherRule {
  return { kind: "other", bounds, otherwise, couldBe };
}

/** Whether a value could be meant for an option. It may still be out of bounds. */
export function couldBe(rule: Rule, value: unknown): boolean {
  if (rule.kind === "other") return rule.couldBe(value);
  return (rule.kind === "function") === (typeof value === "function");
}

/**
 * Checks options and fills in the defaults.
 *
 * @param what What they are options of, for messages.
 * @param within What stands before their names in messages, if they are inside another option.
 * @throws {HarkError} `BAD_OPTION`.
 */
export function checkedValues<R extends Rules>(
  what: string,
  rules: R,
  options: object,
  within: string = "",
): Values<R> {
  knownOptions(what, options, Object.keys(rules));
  const given = options as Readonly<Record<string, unknown>>;
  const values: Record<string, unknown> = {};
  for (const [name, rule] of Object.entries(rules)) {
    if (rule.kind === "other") continue;
    const value = checkedValue(`${within}${name}`, rule, given[name]);
    if (rule.kind !== "function") values[name] = value;
  }
  return values as Values<R>;
}

/** Checks options that are inside another option, such as `retry`. */
export function checkedInside<R extends Rules>(name: string, rules: R, options: object): Values<R> {
  return checkedValues(name, rules, options, `${name}.`);
}

function checkedValue(name: string, rule: Exclude<Rule, OtherRule>, value: unknown): unknown {
  switch (rule.kind) {
    case "number": {
      const { otherwise, least, most, endless, fractions, isRequired } = rule;
      if (value === undefined && !isRequired) return otherwise;
      if (endless && value === Infinity) return value;
      if (!fractions) {
        return requiredWhole(name, value, least, most, endless ? "or Infinity" : undefined);
      }
      if (typeof value === "number" && value >= least && value <= most) return value;
      return bad(name, value, `Give a number from ${least} to ${most}.`);
    }
    case "duration":
      if (value === undefined && !rule.isRequired) return rule.otherwise;
      return requiredMs(name, value as number, rule);
    case "choice":
      if (value === undefined) return rule.choices[0];
      if (rule.choices.includes(value as string)) return value;
      return bad(name, value, `Give one of: ${rule.choices.join(", ")}.`);
    case "switch":
      if (value === undefined) return rule.otherwise;
      if (typeof value === "boolean") return value;
      return bad(name, value, "Give true or false.");
    case "function":
      if (value === undefined || typeof value === "function") return value;
      return bad(name, value, "Give a function.");
  }
}
