/**
 * Whether a transaction pooler is in between.
 *
 * @module
 */

import type { Session } from "./session.ts";

/** How often to look before two sessions count as having connections of their own. */
const looks = 10;

/**
 * Whether a pooler runs each transaction of two sessions on any connection of the server. LISTEN would then
 * stay on a connection that other clients use, and hear nothing.
 *
 * A pooler in session mode tells another process than the server does, too, and LISTEN works through it. A
 * look may find two sessions apart by chance, if others use the pooler at the time. So there are several.
 */
export async function arePooled(one: Session, other: Session): Promise<boolean> {
  if (one.setUp.direct || other.setUp.direct) return false;
  const first = await processOf(one);
  for (let look = 0; look < looks; look++) {
    await other.query("begin");
    // What the other one holds is not given to the first.
    const pooled = await processOf(other) === first || await processOf(one) !== first;
    await other.query("rollback");
    if (pooled) return true;
  }
  return false;
}

async function processOf(session: Session): Promise<number> {
  const { rows: [{ pid }] } = await session.query("select pg_catalog.pg_backend_pid() as pid");
  return pid;
}
