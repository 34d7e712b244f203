/**
 * Asks the server where the log is now, for readers that were woken. What it tells is a private mark: it
 * is not stored, unless it is time for that.
 *
 * @module
 */

import { CommonQuestion } from "../../database/common.ts";
import { queryPrepared } from "../../database/prepared.ts";
import { ownConnection, type Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { type Mark, markOf } from "../state/position.ts";

/** Where the log was. */
export interface Look {
  readonly mark: Mark;
  /** Whether it is time to store a mark. */
  readonly wantsCut: boolean;
}

const question = new CommonQuestion<Look>(async (session) => {
  const { rows: [row] } = await translated(() =>
    queryPrepared(
      session,
      "select hark.content_of(m) as mark, hark.wants_cut(m) as wants_cut from hark.look() m",
      [],
    )
  );
  return { mark: markOf(row?.mark), wantsCut: row.wants_cut === true };
});

/**
 * Asks where the log is: a mark that sees everything committed before the call. Readers that share their
 * connections share the answer.
 */
export async function look(session: Queryable): Promise<Look> {
  return await question.ask(session);
}

/** What the connections are on which a reader looks by itself. */
const alone = new WeakSet<object>();

/**
 * Where the log is: a mark that sees everything committed before the call. Readers that share their
 * connections share the answer.
 *
 * The first reader that looks needs none: it has the server look and read in one statement. `read` is
 * then called without a mark. The others that look in that time share a mark.
 */
export async function looking<T>(
  session: Queryable,
  read: (look: Look | undefined) => Promise<T>,
): Promise<T> {
  const shared = ownConnection(session)?.shared ?? session;
  if (alone.has(shared)) return await read(await question.ask(session));
  alone.add(shared);
  try {
    return await read(undefined);
  } finally {
    alone.delete(shared);
  }
}
