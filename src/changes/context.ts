/**
 * The context: facts that a transaction adds to the changes it makes.
 *
 * @module
 */

import { bad, knownOptions } from "../check.ts";
import {
  firstQuery,
  isDatabase,
  lent,
  type Queryable,
  requireQueryable,
} from "../database/queryable.ts";
import { translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { seam } from "../observe/seam.ts";
import { headersText, withCarried } from "../publish/payload.ts";
import type { Statement } from "../publish/statement.ts";

/**
 * Sets the context of the changes that follow: a request, a person, a trace. Every change of a
 * watched table carries it in its headers, as `change.context`, until the transaction ends.
 *
 * Call it inside the transaction that makes the changes. A database, a pool and a connection without
 * an open transaction are refused: each statement there is a transaction of its own, so the context
 * would end at once.
 *
 * With `forSession` the context applies to everything that follows on the same connection. That
 * needs a connection of your own, such as a `pg.Client`. On a pool's connection, or through a
 * transaction pooler, the context would also apply to what others publish there. So a pool, its
 * connections, and a `pg.Client` behind a pooler are refused. Hark cannot see a pooler through other
 * drivers.
 *
 * If telemetry is on, the trace of the active span is part of the context: `setContext(tx, {})` is
 * enough to join what handles the changes to it. A context with a `traceparent` of its own keeps that.
 *
 * @param context An object that JSON can hold. It replaces the previous context; null removes it.
 * @throws {HarkError} `BAD_PAYLOAD` if the context is not such an object; `BAD_OPTION` for a
 * connection on which it would have no effect, or too much; `NO_SCHEMA`.
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
  requireQueryable(db);
  knownOptions("setContext", options, ["forSession"]);
  const { forSession = false } = options;
  if (typeof forSession !== "boolean") bad("forSession", forSession, "Give true or false.");
  if (context === undefined) bad("context", context, "Give an object, or null to remove it.");
  const text = headersText(context, "context");
  // A session outlives the trace.
  const carried = text === null || forSession ? undefined : seam.observer?.carry();
  const values = [withCarried(text, carried), forSession];
  if (isDatabase(db) || isPool(db)) throw onPool(db, forSession);
  if (forSession) return await setForSession(db, values);
  // A context that is set outside of a transaction ends with the statement.
  const token = crypto.randomUUID();
  await translated(async () => {
    await firstQuery(
      db,
      `select hark.set_context($1::text::jsonb, $2::boolean),
        pg_catalog.set_config('hark.context_token', $3::text, true)`,
      [...values, token],
    );
    const { rows } = await db.query(
      "select pg_catalog.current_setting('hark.context_token', true) as token",
    );
    if (rows[0].token !== token) {
      throw new HarkError(
        "BAD_OPTION",
        "setContext was called outside of a transaction, so the context has ended already",
        { remedy: "Begin a transaction first, and give what it runs on." },
      );
    }
  });
}

/**
 * The statement that sets the context, for a driver that takes the statements of a transaction as a
 * list. Put it before the statements whose changes it is about. It holds for that transaction.
 *
 * @param context As for {@linkcode setContext}.
 * @throws {HarkError} `BAD_PAYLOAD` if the context is not an object that JSON can hold.
 * @example
 * ```ts
 * import { setContextStatement } from "@hark/postgres/publish";
 *
 * declare const sql: {
 *   query(text: string, values: unknown[]): unknown;
 *   transaction(queries: unknown[]): Promise<unknown[]>;
 * };
 * const { text, values } = setContextStatement({ userId: 7 });
 * await sql.transaction([
 *   sql.query(text, values),
 *   sql.query("update users set email = $1 where id = $2", ["a@example.com", 1]),
 * ]);
 * ```
 */
export function setContextStatement(
  context: Readonly<Record<string, unknown>> | null,
): Statement {
  if (context === undefined) bad("context", context, "Give an object, or null to remove it.");
  return {
    text: "select hark.set_context($1::text::jsonb, false)",
    values: [headersText(context, "context")],
  };
}

async function setForSession(db: Queryable, values: unknown[]): Promise<void> {
  if (isLent(db)) {
    throw new HarkError(
      "BAD_OPTION",
      "setContext with forSession was given a connection of a pool, which others use next",
      { remedy: "Leave forSession out, or open a connection of your own: a pg.Client." },
    );
  }
  await translated(async () => {
    // A pooler gives its clients numbers of its own for the server's process.
    const { processID } = db as { readonly processID?: unknown };
    if (typeof processID === "number") {
      const { rows } = await firstQuery(db, "select pg_catalog.pg_backend_pid() as pid");
      if (Number(rows[0].pid) !== processID) {
        throw new HarkError(
          "BAD_OPTION",
          "setContext with forSession was given a connection through a pooler or a proxy, which may " +
            "give the same session to others",
          {
            remedy: "Call setContext without forSession in each transaction, or connect directly.",
          },
        );
      }
    }
    await firstQuery(db, "select hark.set_context($1::text::jsonb, $2::boolean)", values);
  });
}

/** Whether it is a `pg.Pool`, of any copy of that package. */
function isPool(db: Queryable): boolean {
  const { totalCount, idleCount } = db as { totalCount?: unknown; idleCount?: unknown };
  return typeof totalCount === "number" && typeof idleCount === "number";
}

/** Whether a connection goes back to a pool: a transaction of Hark's, or a client to release. */
function isLent(db: Queryable): boolean {
  const { [lent]: isOurs, release } = db as { [lent]?: unknown; release?: unknown };
  return isOurs === true || typeof release === "function";
}

function onPool(db: Queryable, forSession: boolean): HarkError {
  const what = isDatabase(db) ? "a Database" : "a pool";
  return new HarkError(
    "BAD_OPTION",
    forSession
      ? `setContext with forSession was given ${what}, whose connections others use next`
      : `setContext was given ${what}, where the context would end with the statement`,
    {
      remedy: forSession
        ? "Leave forSession out and give a transaction, or give a pg.Client of your own."
        : "Give the transaction that makes the changes: " +
          "db.transaction(async (tx) => { await setContext(tx, …); … }).",
    },
  );
}
