/**
 * Asks the server where the log is now.
 *
 * @module
 */

import { queryPrepared } from "../../database/prepared.ts";
import { type OwnConnection, ownConnection, type Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { type Mark, markOf } from "../state/position.ts";

/** The cuts on some shared connections: one that was sent, and one that waits for its answer. */
interface Cuts {
  sent: Promise<Mark> | undefined;
  next: Promise<Mark> | undefined;
}

const cutsOf = new WeakMap<object, Cuts>();

/**
 * Cuts a mark that sees everything committed before the call. If an earlier mark does, the server
 * returns that one and stores nothing.
 *
 * Readers that share their connections also share their cuts: all that ask while one is on its way get
 * the next one. The one on its way may have its snapshot already.
 */
export async function cut(session: Queryable): Promise<Mark> {
  const own = ownConnection(session);
  const sibling = own?.sibling?.bind(own);
  if (own === undefined || sibling === undefined) return await ask(session);
  const known = cutsOf.get(own.shared);
  const cuts = known ?? { sent: undefined, next: undefined };
  if (known === undefined) cutsOf.set(own.shared, cuts);
  // The reader that asks first may stop before the answer comes.
  if (cuts.sent === undefined) return await send(cuts, sibling());
  cuts.next ??= cuts.sent.then(() => {}, () => {}).then(() => {
    cuts.next = undefined;
    return send(cuts, sibling());
  });
  return await cuts.next;
}

async function send(cuts: Cuts, session: OwnConnection): Promise<Mark> {
  const sent = ask(session);
  cuts.sent = sent;
  try {
    return await sent;
  } finally {
    if (cuts.sent === sent) cuts.sent = undefined;
    await session.close();
  }
}

async function ask(session: Queryable): Promise<Mark> {
  const { rows: [row] } = await translated(() =>
    queryPrepared(session, "select hark.content_of(hark.cut()) as mark", [])
  );
  return markOf(row?.mark);
}
