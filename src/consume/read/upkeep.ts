/**
 * What readers without a registration do for the log now and then.
 *
 * @module
 */

import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { extendLog } from "./extend_log.ts";
import { thinMarks } from "./thin_marks.ts";

const interval = 60_000;

/** When readers last made room in the log, by what their connections are. */
const extendedAt = new WeakMap<object, number>();

/** Whether the role may do all this, by what the connections are. */
const rights = new WeakMap<object, boolean>();

/**
 * The upkeep of one reader: it removes marks and makes room for rows. A reader whose role may only read
 * (`hark.grant_read`) leaves both to workers.
 */
export class Upkeep {
  #at = performance.now() + interval;

  /** Does what is due. */
  async tend(session: Queryable): Promise<void> {
    if (performance.now() < this.#at) return;
    this.#at = performance.now() + interval;
    const shared = ownConnection(session)?.shared ?? this;
    if (!await mayTend(session, shared)) return;
    await thinMarks(session);
    // Of subscriptions that share their connections, one makes room for all.
    const since = performance.now() - (extendedAt.get(shared) ?? -Infinity);
    if (since < interval) return;
    extendedAt.set(shared, performance.now());
    await extendLog(session);
  }
}

async function mayTend(session: Queryable, shared: object): Promise<boolean> {
  const known = rights.get(shared);
  if (known !== undefined) return known;
  const { rows: [row] } = await translated(() =>
    session.query(
      `select pg_catalog.has_function_privilege('hark.thin_marks(interval)', 'execute')
        and pg_catalog.has_function_privilege('hark.extend(boolean)', 'execute') as may`,
    )
  );
  rights.set(shared, row.may);
  return row.may;
}
