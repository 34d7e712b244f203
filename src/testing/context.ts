/**
 * The second argument of a handler, for unit tests.
 *
 * @module
 */

import { knownOptions } from "../check.ts";
import type { HandlerContext } from "../consume/handler.ts";
import type { Notification } from "../consume/notification.ts";
import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";

/** What a handler is given. */
export interface TestContextOptions {
  /** The transaction of a `transactional` consumer: any driver, or an object of yours. */
  readonly tx?: Queryable;
  /** Without it: a signal that never aborts. */
  readonly signal?: AbortSignal;
  /** The id of the consumer. @default {"test"} */
  readonly consumer?: string;
}

/** A context that notes what a batch handler reports. */
export interface TestContext extends HandlerContext {
  /** The notifications that the handler gave to `fail`, with their errors. */
  readonly failed: readonly { readonly notification: Notification; readonly error: unknown }[];
}

/**
 * Makes the context of a handler, without a consumer. For an example see
 * {@linkcode notification}.
 *
 * @throws {HarkError} `BAD_OPTION`. Reading `tx` throws it too, if none was given.
 */
export function handlerContext(options: TestContextOptions = {}): TestContext {
  knownOptions("handlerContext", options, ["tx", "signal", "consumer"]);
  const failed: { notification: Notification; error: unknown }[] = [];
  return {
    worker: { name: "test:1", consumer: options.consumer ?? "test", partition: 0 },
    signal: options.signal ?? new AbortController().signal,
    get tx(): Queryable {
      if (options.tx !== undefined) return options.tx;
      throw new HarkError("BAD_OPTION", "this handler has no transaction", {
        remedy: "Give one: handlerContext({ tx }).",
      });
    },
    fail: (notification, error) => void failed.push({ notification, error }),
    isBehindFailure: ({ id, key }) =>
      key !== null &&
      failed.some(({ notification: one }) => one.key === key && one.id < id),
    failed,
  };
}
