/**
 * `hark listen --skip-unread`: moves consumers to the end of the log before they run.
 *
 * @module
 */

import type { Queryable } from "../../database/queryable.ts";
import { consumers } from "../../operate/consumers.ts";
import { seek } from "../../operate/seek.ts";
import { printError } from "../print/output.ts";
import { countText, named } from "../print/text.ts";
import type { Known } from "./thread_messages.ts";

/**
 * Moves each consumer that is registered and that no worker serves. One that a worker serves is left
 * as it is: that worker is at work on what it has not read.
 *
 * @throws {HarkError} `NO_PERMISSION` without `hark.grant_operate`.
 */
export async function skipUnread(db: Queryable, found: readonly Known[]): Promise<void> {
  const registered = new Map((await consumers(db)).map((one) => [one.consumer, one]));
  for (const { id } of found) {
    const known = registered.get(id);
    if (known === undefined) continue; // it begins with what is published from now on
    if (known.serving) {
      await printError(`${named(id)} skips nothing, as another worker serves it`);
      continue;
    }
    const { givenUp } = await seek(db, id, "now");
    const count = `${known.unreadCapped ? "at least " : ""}${
      countText(known.unread, "unread notification")
    }`;
    const dead = givenUp === 0
      ? ""
      : `; ${countText(givenUp, "waiting notification")} became dead letters`;
    await printError(`${named(id)} skips ${count}${dead}`);
  }
}
