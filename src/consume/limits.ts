/**
 * The option `limits` of a consumer.
 *
 * @module
 */

import { show } from "../check.ts";
import { messageOf } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { getLogger } from "../log/logger.ts";
import { checkedInside } from "../option_rules.ts";
import { Notification } from "./notification.ts";
import { keyLimitRules, limitRules, rateRules } from "./option_table.ts";
import type { LimitOptions, RateOptions } from "./limit_options.ts";
import type { CheckedRate } from "./state/bucket.ts";
import { nextAttempt } from "./state/entry.ts";
import type { CheckedLimits } from "./state/turns.ts";

const logger = getLogger(["hark", "consumer"]);

/**
 * Checks the option `limits` and fills in the defaults. Undefined if it is not given.
 *
 * @throws {HarkError} `BAD_OPTION`.
 */
export function checkedLimits(
  limits: LimitOptions | undefined,
  consumer: string,
): CheckedLimits | undefined {
  if (limits === undefined) return undefined;
  checkedInside("limits", limitRules, limits);
  const { perKey = {}, rate, by } = limits;
  const { concurrency = Infinity } = checkedInside("limits.perKey", keyLimitRules, perKey);
  return {
    concurrency,
    perGroup: checkedRate("limits.perKey.rate", perKey.rate),
    rate: checkedRate("limits.rate", rate),
    groupOf: by === undefined ? ({ key }) => key ?? undefined : (entry) => {
      try {
        return groupName(by(new Notification(entry.row!, nextAttempt(entry))));
      } catch (error) {
        logger.error(
          "{consumer}: limits.by failed for notification {id}, which takes its turn by its key: {reason}",
          { consumer, id: entry.id, reason: messageOf(error), error },
        );
        return entry.key ?? undefined;
      }
    },
    clock: () => performance.now(),
  };
}

function checkedRate(name: string, rate: RateOptions | undefined): CheckedRate | undefined {
  return rate === undefined ? undefined : checkedInside(name, rateRules, rate);
}

function groupName(name: unknown): string | undefined {
  if (name === undefined || name === null) return undefined;
  if (typeof name === "string") return name;
  if (typeof name === "number" || typeof name === "bigint") return String(name);
  throw new HarkError("BAD_OPTION", `limits.by returned ${show(name)}`, {
    remedy: "Return a text or a number, or undefined for a notification without limits of its own.",
  });
}
