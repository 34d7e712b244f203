/**
 * Removes marks that no reader needs.
 *
 * @module
 */

import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";

/** How often marks are thinned, in milliseconds. */
const interval = 60_000;

/** When marks were last thinned, by what the connections are. */
const thinnedAt = new WeakMap<object, number>();

/** Thins the marks. Of readers that share their connections, one does so for all, once a minute. */
export async function thinMarks(session: Queryable): Promise<void> {
  const shared = ownConnection(session)?.shared ?? session;
  const now = performance.now();
  if (now - (thinnedAt.get(shared) ?? -Infinity) < interval) return;
  thinnedAt.set(shared, now);
  await translated(() => session.query("select hark.thin_marks()"));
}
