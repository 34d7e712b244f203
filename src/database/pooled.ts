/**
 * Whether a transaction pooler is in between.
 *
 * @module
 */

import type { Session } from "./session.ts";

/** How often to look before two sessions count as having connections of their own. */
const looks = 6;

/**
 * Whether a pooler runs each transaction of two sessions on any connection of the server. LISTEN would then
 * stay on a connection that other clients use, and hear nothing.
 *
 * A pooler in session mode tells another process than the server does, too, and LISTEN works through it. There
 * the processes of two sessions stay the same, and differ. A few looks may find that by chance, if others use
 * the pooler at the time. So there are several, each of one round trip for both sessions. LISTEN is proved after that.
 */
export async function arePooled(one: Session, other: Session): Promise<boolean> {
  if (one.setUp.direct || other.setUp.direct) return false;
  const first = one.setUp.process;
  const second = other.setUp.process;
  if (first === second) return true;
  for (let look = 0; look < looks; look++) {
    // The order stays once and changes once: a pooler may give its connections in turn, or the last one first.
    const [front, back] = look % 4 < 2 ? [other, one] : [one, other];
    const pids = new Map(
      await Promise.all(
        [front, back].map(async (session) => [session, await processOf(session)] as const),
      ),
    );
    if (pids.get(one) !== first || pids.get(other) !== second) return true;
  }
  return false;
}

async function processOf(session: Session): Promise<number> {
  const { rows: [{ pid }] } = await session.query("select pg_catalog.pg_backend_pid() as pid");
  return Number(pid);
}
