/**
 * `hark listen --drain`: handles what is there, and says how many that was.
 *
 * @module
 */

import { overrideOptions } from "../../consume/consumer.ts";
import type { Answer } from "../args/command.ts";
import { exitCodeOf, exitCodes, sentenceOf } from "../exit_codes.ts";
import { type Cell, count, table } from "../print/table.ts";
import { named } from "../print/text.ts";
import type { Found } from "./modules.ts";
import { printFailure } from "./welcome.ts";

/** What became of the notifications of one consumer; null if the drain itself failed. */
interface Drained {
  readonly consumer: string;
  readonly handled: number | null;
  /** How many failed and were not handled later: they wait for another attempt, or are dead letters. */
  readonly failed: number | null;
}

/** Drains all consumers. */
export async function drain(
  found: readonly Found[],
  signal: AbortSignal,
): Promise<Answer> {
  let code: number = exitCodes.ok;
  const drained = await Promise.all(found.map(async (one): Promise<Drained> => {
    const { id, consumer } = one;
    const failed = failuresOf(one);
    try {
      const handled = await consumer.drain({ signal });
      return { consumer: id, handled, failed: failed.size };
    } catch (error) {
      await printFailure(`consumer ${named(id)}`, sentenceOf(error));
      code ||= exitCodeOf(error);
      return { consumer: id, handled: null, failed: null };
    }
  }));
  return { json: drained, text: table("consumer, handled, failed", drained.map(row)), code };
}

/** The ids that fail, and are not handled later, from now on. */
function failuresOf({ consumer }: Found): ReadonlySet<number> {
  const failed = new Set<number>();
  const { onError, onDeadLetter, onHandled } = consumer;
  overrideOptions(consumer, {
    onError(error, notification) {
      failed.add(notification.id);
      return onError?.call(consumer, error, notification);
    },
    // Without a failed attempt, if it cannot be read or has crashed its workers.
    onDeadLetter(error, notification) {
      failed.add(notification.id);
      return onDeadLetter?.call(consumer, error, notification);
    },
    onHandled(notification, handled) {
      failed.delete(notification.id);
      return onHandled?.call(consumer, notification, handled);
    },
  });
  return failed;
}

function row({ consumer, handled, failed }: Drained): Cell[] {
  const broken: Cell = { text: "ended by an error", style: "red" };
  return [consumer, handled ?? broken, failed === null ? "-" : count(failed, "red")];
}
