/**
 * The options of a consumer that is a class: its fields, methods and accessors.
 *
 * @module
 */

import { nearest, show } from "../check.ts";
import { HarkError } from "../errors.ts";
import { insideOf } from "../channels/on.ts";
import { couldBe, type Rules } from "../option_rules.ts";
import { checkOptions, withChannels } from "./check_options.ts";
import { consumerRules } from "./option_table.ts";
import type { ConsumerOptions } from "./options.ts";

const rules: Rules = consumerRules;
const optionNames = Object.keys(rules) as (keyof ConsumerOptions)[];

// deno-lint-ignore no-explicit-any -- any class
type Class = abstract new (...given: any[]) => object;

/**
 * Sees each field that a subclass sets, although fields are set after the constructors of their
 * base classes. So a wrong field is refused as the object is made, and an option of the constructor
 * wins over a field whenever the property is read.
 *
 * @param consumer The object that Consumer's constructor makes.
 * @param options What that constructor was given.
 * @param made The class of the object.
 * @param base Consumer itself, whose members are no options.
 * @returns the object to return from the constructor: it takes the place of `this` in subclasses.
 */
export function withFields<T extends object>(
  consumer: T,
  options: ConsumerOptions,
  made: Class,
  base: Class,
): T {
  if (made === base) return consumer;
  for (let one = made; one !== base; one = Object.getPrototypeOf(one)) {
    for (const [name, { value }] of ownOf(one.prototype)) {
      refuseAlmost(name, value, made, base);
      if (isOption(name) && value !== undefined) checkOptions({ [name]: value }, true);
    }
    for (const [name] of ownOf(one)) refuseStatic(name, made);
  }
  // Whether the property `channels` was set from a table of handlers, not by the class itself.
  let derived = false;
  return new Proxy(consumer, {
    defineProperty(target, name, field) {
      if (typeof name !== "string") return Reflect.defineProperty(target, name, field);
      refuseAlmost(name, field.value, made, base);
      if (!isOption(name)) return Reflect.defineProperty(target, name, field);
      if (options[name] !== undefined) {
        field = { value: options[name], configurable: true, enumerable: true, writable: true };
      } else if (field.value !== undefined) checkOptions({ [name]: field.value }, true);
      if (name === "channels") derived = false;
      if (name === "handle" && (derived || (target as ConsumerOptions).channels === undefined)) {
        const { channels } = withChannels<ConsumerOptions>({ handle: field.value });
        if (derived || channels !== undefined) Object.assign(target, { channels });
        derived = channels !== undefined;
      }
      return Reflect.defineProperty(target, name, field);
    },
  });
}

function ownOf(object: object): [name: string, PropertyDescriptor][] {
  return Object.entries(Object.getOwnPropertyDescriptors(object));
}

function isOption(name: string): name is keyof ConsumerOptions {
  return Object.hasOwn(consumerRules, name);
}

/** Refuses a name that is almost an option's: without an error, the option would not be set. */
function refuseAlmost(name: string, value: unknown, made: Class, base: Class): void {
  if (isOption(name) || name in base.prototype) return;
  const near = nearest(name, optionNames) as keyof ConsumerOptions | undefined;
  // A counter "handled" is not meant to be the function "handle".
  if (near === undefined || !couldBe(rules[near]!, value)) return;
  throw new HarkError(
    "BAD_OPTION",
    `class ${nameOf(made)} has a member ${show(name)}, which is no option of a consumer`,
    { remedy: `Did you mean ${near}? If the member is your own, make it private: #${name}.` },
  );
}

function refuseStatic(name: string, made: Class): void {
  if (!isOption(name)) return;
  throw new HarkError("BAD_OPTION", `class ${nameOf(made)} has the option ${name} as static`, {
    remedy: `Options are fields of the object: write ${name} without static.`,
  });
}

function nameOf({ name }: Class): string {
  return typeof name === "string" && name !== "" ? name : "without a name";
}

/**
 * The options of a consumer: what its constructor was given, and else what its class has. A handler
 * that was given wins over the other kind of handler of the class.
 */
export function optionsOf(
  consumer: object,
  given: ConsumerOptions,
  base: { readonly prototype: object },
): ConsumerOptions {
  const own = consumer as Record<string, unknown>;
  const methods = base.prototype as Record<string, unknown>;
  const isGiven = given.handle !== undefined || given.handleBatch !== undefined;
  const all: Record<string, unknown> = {};
  for (const name of optionNames) {
    const isHandler = name === "handle" || name === "handleBatch";
    const value = given[name] ?? (isHandler && isGiven ? undefined : own[name]);
    if (value === undefined || value === methods[name]) continue;
    // Methods are called on the consumer.
    // A table of handlers needs no consumer, and a bound one would not be known as a table.
    const isMethod = typeof value === "function" && value !== given[name] &&
      insideOf(value) === undefined;
    all[name] = isMethod ? value.bind(consumer) : value;
  }
  return all;
}
