/**
 * Functions around a handler: for logs, traces, checks and contexts that all handlers share.
 *
 * @module
 */

import { bad } from "../check.ts";
import { HarkError } from "../errors.ts";
import type { HandlerContext } from "./handler.ts";

// deno-lint-ignore no-explicit-any -- one notification or a batch
type Given = any;

type Handle = (given: Given, context: HandlerContext) => unknown;

/** A function around a handler of either kind. */
export type AnyAround = (
  given: Given,
  context: HandlerContext,
  next: () => Promise<unknown>,
) => unknown;

/** The functions of the option `around` or `aroundBatch`, as a list. */
export function aroundList(name: string, value: unknown): readonly AnyAround[] {
  const list: readonly unknown[] = Array.isArray(value)
    ? value
    : value === undefined
    ? []
    : [value];
  if (list.some((one) => typeof one !== "function")) {
    bad(name, value, "Give a function, or a list of functions.");
  }
  return list as readonly AnyAround[];
}

/** Puts functions around a handler. The first of the list is the outermost. */
export function withAround<H extends Handle>(handle: H, around: readonly AnyAround[]): H {
  return around.reduceRight<Handle>((inner, one) => once(one, inner), handle) as H;
}

function once(around: AnyAround, inner: Handle): Handle {
  return async (given, context) => {
    let pending: Promise<unknown> | undefined;
    let called = false;
    const next = () => {
      if (called) {
        throw new HarkError("BAD_OPTION", "next() was called twice by a function of around", {
          remedy: "Call it once for each call of the function. To try again later, throw an error.",
        });
      }
      called = true;
      // Not the async function's own promise: an error that it throws at once must reject it too.
      const running = (async () => await inner(given, context))();
      const ended = () => {
        pending = undefined;
      };
      running.then(ended, ended); // an error that is not awaited must not end the process
      return pending = running;
    };
    try {
      const result = await around(given, context, next);
      // If `next()` was not awaited, the handler may still run. Its error counts.
      await pending;
      return result;
    } catch (error) {
      // Otherwise the next handler of its key would start beside this one.
      await pending?.catch(() => {});
      throw error;
    }
  };
}
