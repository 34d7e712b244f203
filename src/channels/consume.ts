/**
 * Decodes the notifications of typed channels before a consumer's handler gets them.
 *
 * @module
 */

import { show } from "../check.ts";
import type { BatchHandler, Handler, HandlerContext } from "../consume/handler.ts";
import type { Notification } from "../consume/notification.ts";
import { HarkError } from "../errors.ts";
import { decode, next } from "./decode.ts";
import { type Definition, definitionOf } from "./kind.ts";
import { insideOf } from "./on.ts";

/** The definitions of typed channels among those that a reader asks for, by name. */
export function typedAmong(channels: unknown): Map<string, Definition> {
  const found = (Array.isArray(channels) ? channels : [channels]).flatMap((one) =>
    definitionOf(one) ?? []
  );
  return new Map(found.map((typed) => [typed.name, typed]));
}

/**
 * A handler that gets decoded payloads. A table of handlers decodes by itself, except for channels
 * that only its `otherwise` handles.
 *
 * @throws {HarkError} `BAD_OPTION` if a table has no handler for one of the channels.
 */
export function decoding(
  handle: Handler,
  names: readonly string[],
  channels: unknown,
): Handler {
  const typed = typedAmong(channels);
  const table = insideOf(handle);
  if (table !== undefined) {
    const without = names.find((name) => !table.handles(name));
    if (without !== undefined) {
      throw new HarkError("BAD_OPTION", `channel ${show(without)} has no handler`, {
        remedy: "Add one with on(), or say otherwise(…).",
      });
    }
    for (const name of typed.keys()) if (!table.leaves(name)) typed.delete(name);
  }
  if (typed.size === 0) return handle;
  return (notification, context) => {
    const definition = typed.get(notification.channel);
    return definition === undefined
      ? handle(notification, context)
      : next(decode(definition, notification), () => handle(notification, context));
  };
}

/** The same for a handler of batches. What cannot be decoded fails alone. */
export function decodingBatch(handle: BatchHandler, channels: unknown): BatchHandler {
  if (insideOf(handle) !== undefined) {
    throw new HarkError(
      "BAD_OPTION",
      "handleBatch is what on() returns, which handles one at a time",
      {
        remedy: "Give it as handle.",
      },
    );
  }
  const typed = typedAmong(channels);
  if (typed.size === 0) return handle;
  return async (notifications, context) => {
    const ready: Notification[] = [];
    for (let i = 0; i < notifications.length; i++) {
      const notification = notifications[i]!;
      if (context.isBehindFailure(notification)) continue;
      const definition = typed.get(notification.channel);
      try {
        if (definition !== undefined) await decode(definition, notification);
        ready.push(notification);
      } catch (error) {
        context.fail(notification, error);
      }
    }
    if (ready.length > 0) await handle(leavingOut(ready, context), context);
  };
}

/** As the batch was: a loop over it leaves out those behind a failed one of their key. */
function leavingOut(
  notifications: Notification[],
  { isBehindFailure }: HandlerContext,
): readonly Notification[] {
  const ahead = function* () {
    for (const at of notifications.keys()) if (!isBehindFailure(notifications[at]!)) yield at;
  };
  const hidden = { configurable: true, writable: true };
  return Object.defineProperties(notifications, {
    [Symbol.iterator]: {
      ...hidden,
      *value() {
        for (const at of ahead()) yield notifications[at];
      },
    },
    entries: {
      ...hidden,
      *value() {
        for (const at of ahead()) yield [at, notifications[at]];
      },
    },
  });
}
