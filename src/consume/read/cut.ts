/**
 * Asks the server where the log is now.
 *
 * @module
 */

import { CommonQuestion } from "../../database/common.ts";
import { queryPrepared } from "../../database/prepared.ts";
import type { Queryable } from "../../database/queryable.ts";
import { translated } from "../../database/translate.ts";
import { type Mark, markOf } from "../state/position.ts";

const question = new CommonQuestion<Mark>(async (session) => {
  const { rows: [row] } = await translated(() =>
    queryPrepared(session, "select hark.content_of(hark.cut()) as mark", [])
  );
  return markOf(row?.mark);
});

/**
 * Cuts a mark that sees everything committed before the call. If an earlier mark does, the server
 * returns that one and stores nothing. Readers that share their connections also share their cuts.
 */
export async function cut(session: Queryable): Promise<Mark> {
  return await question.ask(session);
}
