/**
 * The dead letters of an inbox.
 *
 * @module
 */

import { consumerName } from "../check.ts";
import type { Database } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { messageOf, translated } from "../database/translate.ts";
import { requireSchema } from "../schema/migrate.ts";
import { settle } from "./dead_in_short.ts";
import { itemOf, itemsOf } from "./map.ts";
import { messageOfParts } from "./message.ts";
import type { InboxMessage, InboxOptions } from "./options.ts";
import { requireInbox } from "./status.ts";
import { publishItems } from "./publish.ts";

const page = 100;

/** A message that an inbox could not publish. */
export interface DeadMessage {
  /** What the dead letter is told by. The message has its number in the stream. */
  readonly number: number;
  /** The message. Its `time` is when it became a dead letter. */
  readonly message: InboxMessage;
  /** Why it could not be published. */
  readonly reason: string;
}

/**
 * The dead letters of an inbox, the oldest first.
 *
 * @throws {HarkError} `NO_CONSUMER` if there is no inbox of that id; `BAD_OPTION`; `NO_PERMISSION` without
 *   `hark.grant_consume`.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { deadMessages } from "@hark/postgres/inbox";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * for await (const { number, message, reason } of deadMessages(db, "payments-in")) {
 *   console.log(number, message.subject, reason);
 * }
 * ```
 */
export async function* deadMessages(
  db: Queryable,
  inbox: string,
): AsyncGenerator<DeadMessage, void> {
  const id = consumerName(inbox);
  await requireSchema(db);
  await requireInbox(db, id);
  for (let after = 0;;) {
    const { rows } = await translated(() =>
      db.query("select * from hark.inbox_dead_letters($1::text, $2::bigint, $3::int)", [
        id,
        after,
        page,
      ])
    );
    for (const row of rows) {
      after = Number(row.number);
      const message = messageOfParts({
        subject: row.subject,
        sequence: Number(row.sequence),
        time: new Date(row.failed_at),
        headers: row.headers,
        body: Uint8Array.from(atob(row.body), (character) => character.charCodeAt(0)),
      });
      yield { number: after, message, reason: row.reason };
    }
    if (rows.length < page) return;
  }
}

/** What came of {@linkcode redrive}. */
export interface RedriveResult {
  /** How many were published. */
  readonly published: number;
  /** Those that still cannot be, with the reasons. */
  readonly left: readonly DeadMessage[];
}

/**
 * Publishes the dead letters of an inbox after the repair, the oldest first. Newer messages have been
 * published before them. Those that fail again stay. If two calls run at once, each message is published by
 * one of them.
 *
 * @param options `map`, if the inbox has one.
 * @throws {HarkError} As {@linkcode deadMessages}.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { redrive } from "@hark/postgres/inbox";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { published, left } = await redrive(db, "payments-in", {
 *   map: (message) => ({ channel: "payments", payload: message.text() }),
 * });
 * console.log(published, left.length);
 * ```
 */
export async function redrive(
  db: Database,
  inbox: string,
  options: Pick<InboxOptions, "map"> = {},
): Promise<RedriveResult> {
  let published = 0;
  const left: DeadMessage[] = [];
  for await (const { number, message } of deadMessages(db, inbox)) {
    try {
      const items = options.map === undefined
        ? [itemOf(message, undefined)]
        : itemsOf(await options.map(message), message, undefined);
      const isPublished = await translated(() =>
        db.transaction(async (tx) => {
          // First, as it locks: another redrive may be about to publish the same message.
          if (!await settle(tx, inbox, number, true)) return false;
          await publishItems(tx, items, false);
          return true;
        })
      );
      if (isPublished) published++;
    } catch (error) {
      left.push({ number, message, reason: messageOf(error) });
    }
  }
  return { published, left };
}

/**
 * Takes a dead letter of an inbox away for good. Returns whether there was one.
 *
 * @param number As {@linkcode deadMessages} gives it.
 * @throws {HarkError} As {@linkcode deadMessages}.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { discardMessage } from "@hark/postgres/inbox";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * console.log(await discardMessage(db, "payments-in", 42));
 * ```
 */
export async function discardMessage(
  db: Queryable,
  inbox: string,
  number: number,
): Promise<boolean> {
  const id = consumerName(inbox);
  await requireSchema(db);
  await requireInbox(db, id);
  return await translated(() => settle(db, id, number, false));
}
