/**
 * The context: facts that a transaction adds to the changes it makes.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import { firstQuery, type Queryable } from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { headersText } from "../publish/payload.ts";
import { queryable } from "../publish/notify.ts";

/**
 * Sets the context of the changes that follow: a request, a person, a trace. Every change of a
 * watched table carries it in its headers, as `change.context`, until the transaction ends.
 *
 * Call it inside the transaction that makes the changes. It has no effect on a database or a pool,
 * because each statement there is a transaction of its own. With `forSession` the context applies
 * to everything that follows on the same connection. Use that only on a connection of your own: on
 * a pool's connection the context would also apply to the next user of the connection.
 *
 * @param context An object that JSON can hold. It replaces the previous context; null removes it.
 * @throws {HarkError} `BAD_PAYLOAD` if the context is not such an object; `BAD_OPTION`;
 * `NO_SCHEMA`.
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
  const values = [headersText(context, "context"), forSession];
  await translated(() =>
    firstQuery(db, "select hark.set_context($1::text::jsonb, $2::boolean)", values)
  );
}
