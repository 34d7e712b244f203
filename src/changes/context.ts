/**
 * What the changes of a transaction are told with.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import type { Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { headersText } from "../publish/payload.ts";
import { queryable } from "../publish/notify.ts";

/**
 * Tells who or what makes the changes that follow: a request, a person, a trace. Every change of a
 * watched table has it in its headers, `change.context`, until the transaction ends.
 *
 * Call it in the transaction that makes the changes; with a database or a pool, each statement of which
 * is a transaction of its own, it does nothing. `forSession` keeps it for all that follows on the same
 * connection: right for a connection of your own, wrong for one of a pool, whose next user has it too.
 *
 * @param context An object that JSON can hold; it replaces the one before. Null removes it.
 * @throws {HarkError} `BAD_PAYLOAD` for what is no such object; `BAD_OPTION`; `NO_SCHEMA`.
 * @example
 * ```ts
 * import { connect, setContext } from "@hark/postgres";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * await db.transaction(async (tx) => {
 *   await setContext(tx, { userId: 7, requestId: "b2c4" });
 *   await tx.query("update users set email = $1 where id = $2", ["a@example.com", 1]);
 * });
 * ```
 */
export async function setContext(
  db: Queryable,
  context: Readonly<Record<string, unknown>> | null,
  options: { readonly forSession?: boolean } = {},
): Promise<void> {
  queryable(db);
  knownOptions("setContext", options, ["forSession"]);
  const { forSession = false } = options;
  if (typeof forSession !== "boolean") bad("forSession", forSession, "Give true or false.");
  if (context === undefined) bad("context", context, "Give an object, or null to remove it.");
  const values = [headersText(context), forSession];
  await translated(() => db.query("select hark.set_context($1::text::jsonb, $2::boolean)", values));
}
