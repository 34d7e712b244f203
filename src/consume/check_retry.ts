/**
 * Checks the option `retry` of a consumer.
 *
 * @module
 */

import { bad, show } from "../check.ts";
import { checkedInside } from "../option_rules.ts";
import { retryRules } from "./option_table.ts";
import type { CheckedRetry } from "./retry.ts";
import type { ErrorKind, RetryDecision, RetryOptions } from "./retry_options.ts";

/**
 * Checks the option `retry` and fills in the defaults.
 *
 * @throws {HarkError} `BAD_OPTION`.
 */
export function retryPolicy(retry: RetryOptions | RetryDecision | undefined): CheckedRetry {
  const o: RetryOptions = typeof retry === "function" ? {} : retry ?? {};
  const { initial, maximum, factor, step } = checkedInside("retry", retryRules, o);
  if (o.factor !== undefined && step !== undefined) {
    bad("retry.step", o.step, "Give either factor or step.");
  }
  const isGiven = { initial: o.initial !== undefined, maximum: o.maximum !== undefined };
  if (isGiven.initial && isGiven.maximum && maximum < initial) {
    bad("retry.maximum", o.maximum, `Give at least retry.initial, which is ${show(o.initial)}.`);
  }
  return {
    // A default gives way.
    retryInitial: isGiven.initial ? initial : Math.min(initial, maximum),
    retryMaximum: isGiven.maximum ? maximum : Math.max(initial, maximum),
    retryFactor: factor,
    retryStep: step,
    retryOnly: errorKinds("retry.only", o.only),
    retryNever: errorKinds("retry.never", o.never) ?? [],
    retryDecide: typeof retry === "function" ? retry : undefined,
  };
}

function errorKinds(name: string, kinds: unknown): readonly ErrorKind[] | undefined {
  if (kinds === undefined) return undefined;
  const isKind = (one: unknown) =>
    typeof one === "string" && one !== "" ||
    typeof one === "function" && typeof one.prototype === "object" && one.prototype !== null;
  if (!Array.isArray(kinds) || kinds.length === 0 || !kinds.every(isKind)) {
    bad(name, kinds, "Give a list of at least one class of errors, or name of errors.");
  }
  return [...kinds];
}
