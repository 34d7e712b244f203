/**
 * Which subject a notification is published on.
 *
 * @module
 */

import { bad } from "../check.ts";
import type { Notification } from "../consume/notification.ts";
import { HarkError } from "../errors.ts";

/**
 * A template of a subject. `{channel}`, `{key}`, `{id}` and `{header.NAME}` stand for what the
 * notification has. Characters that a subject cannot hold are written as `%` and two hexadecimal
 * digits. In a key and a header the dot is too, so that each is one token. What is missing is `_`.
 */
export type SubjectTemplate = string;

/** Makes the subject of a notification. */
export type SubjectFunction = (notification: Notification) => string;

/** A template or a function for all channels, or one for each channel. `*` is for all others. */
export type SubjectRules =
  | SubjectTemplate
  | SubjectFunction
  | Readonly<Record<string, SubjectTemplate | SubjectFunction>>;

const encoder = new TextEncoder();

/** Checks the rules, and gives the function that they are. */
export function subjectsOf(rules: SubjectRules): SubjectFunction {
  if (typeof rules === "string" || typeof rules === "function") return one("subject", rules);
  if (Object.prototype.toString.call(rules) !== "[object Object]") {
    bad(
      "subject",
      rules,
      'Give a template such as "shop.{channel}.{key}", a function, or an object.',
    );
  }
  const table = new Map(
    Object.entries(rules).map((
      [name, rule],
    ) => [name, one(`subject[${JSON.stringify(name)}]`, rule)]),
  );
  return (notification) => {
    const make = table.get(notification.channel) ?? table.get("*");
    if (make !== undefined) return make(notification);
    throw noRule(notification.channel);
  };
}

function noRule(channel: string): HarkError {
  return new HarkError("BAD_OPTION", `the option subject has no rule for channel "${channel}"`, {
    remedy: `Add one for it, or one for "*".`,
  });
}

function one(name: string, rule: SubjectTemplate | SubjectFunction): SubjectFunction {
  if (typeof rule === "function") {
    return (notification) => {
      const subject = rule(notification);
      if (typeof subject === "string" && isSubject(subject)) return subject;
      return bad(`what ${name} returned`, subject, "Return tokens with dots between them.");
    };
  }
  if (typeof rule !== "string") bad(name, rule, "Give a template or a function.");
  const parts = rule.split(/\{([^{}]*)\}/);
  for (let i = 1; i < parts.length; i += 2) {
    if (!/^(channel|key|id|header\..+)$/.test(parts[i]!)) {
      bad(name, rule, `Write {channel}, {key}, {id} or {header.NAME} instead of {${parts[i]}}.`);
    }
  }
  if (!isSubject(parts.map((part, i) => i % 2 === 0 ? part : "x").join(""))) {
    bad(name, rule, 'Give tokens with dots between them, such as "shop.{channel}.{key}".');
  }
  return (notification) =>
    parts.map((part, i) => i % 2 === 0 ? part : valueOf(notification, part)).join("");
}

function valueOf(n: Notification, name: string): string {
  if (name === "id") return String(n.id);
  if (name === "channel") return channelPart(n.channel);
  if (name === "key") return token(n.key);
  const header = name.slice("header.".length);
  const value = Object.hasOwn(n.headers, header) ? n.headers[header] : undefined;
  return token(
    value === undefined || value === null
      ? null
      : typeof value === "string"
      ? value
      : JSON.stringify(value),
  );
}

/**
 * A channel in a subject. Its dots are levels, as in "orders.paid". A channel may also have them where no
 * subject has, such as at its end.
 */
function channelPart(channel: string): string {
  return isSubject(channel) ? channel : token(channel);
}

/**
 * The template for a channel, with the channel's name in it. Undefined if a function makes the subjects.
 *
 * @param rules As {@linkcode subjectsOf} has checked them.
 * @throws {HarkError} `BAD_OPTION` if there is no rule for the channel.
 */
export function templateOf(rules: SubjectRules, channel: string): SubjectTemplate | undefined {
  const rule = typeof rules === "object"
    ? Object.hasOwn(rules, channel) ? rules[channel] : Object.hasOwn(rules, "*") && rules["*"]
    : rules;
  if (!rule) throw noRule(channel);
  if (typeof rule === "function") return undefined;
  return rule.replaceAll("{channel}", () => channelPart(channel));
}

/** Whether a subject with wildcards takes some subject of {@linkcode templateOf}. */
export function mayTake(pattern: string, template: SubjectTemplate): boolean {
  const wanted = pattern.split(".");
  // What stands in braces gives one token, whatever it is. A header's name may have dots.
  const given = template.replaceAll(/\{[^{}]*\}/g, "{}").split(".");
  for (const [i, token] of wanted.entries()) {
    if (token === ">") return given.length > i;
    if (i >= given.length) return false;
    if (token !== "*" && token !== given[i] && !given[i]!.includes("{}")) return false;
  }
  return wanted.length === given.length;
}

/** A text as one token of a subject. */
export function token(text: string | null): string {
  if (text === null || text === "") return "_";
  return text.replaceAll(/[^\x21-\x7e]|[.*>%]/gu, (character) =>
    [...encoder.encode(character)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""));
}

/** Whether a text is a subject that can be published on. */
export function isSubject(text: string): boolean {
  return /^[^\s.*>\0]+(\.[^\s.*>\0]+)*$/.test(text);
}

/** Whether a subject with wildcards takes another subject. */
export function takes(pattern: string, subject: string): boolean {
  const wanted = pattern.split(".");
  const given = subject.split(".");
  for (const [i, token] of wanted.entries()) {
    if (token === ">") return given.length > i;
    if (i >= given.length || token !== "*" && token !== given[i]) return false;
  }
  return wanted.length === given.length;
}
