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
import { type Dead, deadOf, publishDead, settle } from "./dead_in_short.ts";
import { itemOf, itemsOf } from "./map.ts";
import type { InboxMessage, InboxOptions } from "./options.ts";
import { requireInbox } from "./status.ts";

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
  for await (const { number, message, reason } of allDead(db, inbox)) {
    yield { number, message, reason };
  }
}

async function* allDead(db: Queryable, inbox: string): AsyncGenerator<Dead, void> {
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
      const dead = deadOf(row);
      after = dead.number;
      yield dead;
    }
    if (rows.length < page) return;
  }
}

/** What came of {@linkcode redrive}. */
export interface RedriveResult {
  /** How many were published. */
  readonly published: number;
  /** How many were left out as repeats, by the `dedupe` that the inbox had. */
  readonly repeated: number;
  /** Those that still cannot be, with the reasons. */
  readonly left: readonly DeadMessage[];
}

/**
 * Publishes the dead letters of an inbox after the repair, the oldest first. Newer messages have been
 * published before them. Those that fail again stay. If two calls run at once, each message is published by
 * one of them. If the inbox had `dedupe`, a message that was sent again and published is left out.
 *
 * @param options `map`, if the inbox has one.
 * @throws {HarkError} As {@linkcode deadMessages}.
 * @example
 * ```ts
 * import { connect } from "@hark/postgres";
 * import { redrive } from "@hark/postgres/inbox";
 *
 * await using db = await connect(Deno.env.get("DATABASE_URL"));
 * const { published, repeated, left } = await redrive(db, "payments-in", {
 *   map: (message) => ({ channel: "payments", payload: message.text() }),
 * });
 * console.log(published, repeated, left.length);
 * ```
 */
export async function redrive(
  db: Database,
  inbox: string,
  options: Pick<InboxOptions, "map"> = {},
): Promise<RedriveResult> {
  const count = { published: 0, repeated: 0, gone: 0 };
  const left: DeadMessage[] = [];
  for await (const dead of allDead(db, inbox)) {
    const { number, message, dedupe } = dead;
    try {
      const items = options.map === undefined
        ? [itemOf(message, dedupe)]
        : itemsOf(await options.map(message), message, dedupe);
      const outcome = await translated(() =>
        db.transaction((tx) => publishDead(tx, inbox, dead, items))
      );
      count[outcome]++;
    } catch (error) {
      left.push({ number, message, reason: messageOf(error) });
    }
  }
  const { published, repeated } = count;
  return { published, repeated, left };
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
