/**
 * Removes marks that no reader needs.
 *
 * @module
 */

import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";

/** How often marks are thinned, in milliseconds. */
const interval = 60_000;

/** The same while there may be more to remove: the server removes a part at a time. */
const shortInterval = 5000;

/** When marks were last thinned, and whether there may be more, by what the connections are. */
const thinned = new WeakMap<object, { readonly at: number; readonly goesOn: boolean }>();

/**
 * Thins the marks. Of readers that share their connections, one does so for all, once a minute.
 *
 * @returns whether there may be more to remove.
 */
export async function thinMarks(session: Queryable): Promise<boolean> {
  const shared = ownConnection(session)?.shared ?? session;
  const now = performance.now();
  const last = thinned.get(shared);
  if (last !== undefined && now - last.at < (last.goesOn ? shortInterval : interval)) {
    return last.goesOn;
  }
  thinned.set(shared, { at: now, goesOn: false });
  const { rows: [row] } = await translated(() =>
    session.query("select hark.thin_marks() as removed")
  );
  const goesOn = Number(row?.removed) > 0;
  thinned.set(shared, { at: now, goesOn });
  return goesOn;
}
