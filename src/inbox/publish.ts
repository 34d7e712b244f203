/**
 * Publishes what messages became, and moves the place of the inbox, in one transaction.
 *
 * @module
 */

import type { Database } from "../database/database.ts";
import { inItsEncoding } from "../database/encoding.ts";
import type { Queryable } from "../database/queryable.ts";
import { messageOf, translated } from "../database/translate.ts";
import { HarkError } from "../errors.ts";
import { shortened, storable } from "../visible.ts";
import type { Item } from "./map.ts";
import type { InboxMessage } from "./options.ts";
import { type Place, timeText } from "./place.ts";
import type { Taken } from "./taken.ts";

/** A message that cannot be published, and why. */
export interface Bad {
  readonly message: InboxMessage;
  readonly reason: string;
}

/** What a message became. */
export interface Made {
  readonly message: InboxMessage;
  readonly items: readonly Item[];
  /** Why it is a dead letter. */
  readonly reason?: string;
  /** Whether it is left out, as this same install has relayed it. */
  readonly isOwn?: boolean;
}

/** What has come of a batch. */
export interface Published {
  readonly taken: Taken;
  readonly dead: readonly Bad[];
}

/** What to publish. */
export interface InboxBatch {
  readonly inbox: string;
  readonly source: string;
  readonly place: Place;
  readonly upto: Place;
  /** How many messages the stream has behind it; null if it did not say. */
  readonly pending: number | null;
  /** For how many milliseconds items are published once, by their dedupe keys. */
  readonly dedupe: number | undefined;
  readonly made: readonly Made[];
}

/** Publishes items in a transaction. Returns how many were repeats. */
export async function publishItems(
  tx: Queryable,
  items: readonly Item[],
  once: boolean,
): Promise<number> {
  if (items.length === 0) return 0;
  const all = [`[${items.join(",")}]`];
  if (!once) {
    await tx.query("select hark.notify_many($1::json)", all);
    return 0;
  }
  const { rows: [row] } = await tx.query(
    "select count(*) filter (where is_duplicate) as repeated from hark.notify_each($1::json)",
    all,
  );
  return Number(row.repeated);
}

/**
 * Publishes a batch. If a message cannot be published, it is looked for.
 *
 * @throws {HarkError} `CONFLICT` if another process has moved the place.
 */
export async function publishBatch(db: Database, batch: InboxBatch): Promise<Published> {
  try {
    return await attempt(db, batch, new Map());
  } catch (error) {
    if (!isOfMessage(error)) throw error;
  }
  const broken = new Map<InboxMessage, string>();
  for (const { message, items } of batch.made) {
    const reason = await reasonAgainst(db, items, batch.dedupe !== undefined);
    if (reason !== undefined) broken.set(message, reason);
  }
  return await inItsEncoding((writable) => attempt(db, batch, broken, writable));
}

async function attempt(
  db: Database,
  { inbox, source, place, upto, pending, dedupe, made }: InboxBatch,
  broken: ReadonlyMap<InboxMessage, string>,
  writable = storable,
): Promise<Published> {
  const dead: Bad[] = [];
  let [own, unmapped, repeated] = [0, 0, 0];
  const items: Item[] = [];
  for (const { message, items: its, isOwn, reason = broken.get(message) } of made) {
    if (reason !== undefined) dead.push({ message, reason });
    else if (isOwn) own++;
    else if (its.length === 0) unmapped++;
    else for (const item of its) items.push(item); // a call takes some 100,000 arguments at most
  }
  await translated(() =>
    db.transaction(async (tx) => {
      repeated = await publishItems(tx, items, dedupe !== undefined);
      const { rows: [row] } = await tx.query(
        `select hark.inbox_take($1::text, $2::text, $3::bigint, $4::bigint, $5::json, $6::bigint,
          $7::timestamptz) as taken`,
        [
          inbox,
          source,
          place.sequence,
          upto.sequence,
          JSON.stringify(dead.map((one) => rowOf(one, dedupe, writable))),
          pending,
          timeText(upto),
        ],
      );
      if (row.taken === true) return;
      throw new HarkError("CONFLICT", `another process serves inbox "${inbox}"`, {
        remedy: "Run each inbox once, or give this one an id of its own.",
      });
    })
  );
  const published = items.length - repeated;
  const messages = made.length;
  return { taken: { messages, published, own, unmapped, repeated, dead: dead.length }, dead };
}

/**
 * A dead letter for hark.inbox_take. If it could not be stored, the inbox would try it for ever: the words of a
 * JSON parser show a piece of the body, with whatever that has.
 */
function rowOf(
  { message, reason }: Bad,
  dedupe: number | undefined,
  writable: (text: string) => string,
) {
  const { sequence, body } = message;
  const headers = Object.fromEntries(
    Object.entries(message.headers).map((one) => one.map(writable) as [string, string]),
  );
  let binary = "";
  for (const byte of body) binary += String.fromCharCode(byte);
  return {
    sequence,
    subject: writable(message.subject),
    headers,
    body: btoa(binary),
    within_ms: dedupe,
    reason: writable(shortened(reason)),
  };
}

/** Tries a message alone, and takes it back. */
async function reasonAgainst(
  db: Database,
  items: readonly Item[],
  once: boolean,
): Promise<string | undefined> {
  let isGood = false;
  try {
    await translated(() =>
      db.transaction(async (tx) => {
        await publishItems(tx, items, once);
        isGood = true;
        throw new Error("it was only tried");
      })
    );
  } catch (error) {
    if (isGood) return undefined;
    if (!isOfMessage(error)) throw error;
    return messageOf(error);
  }
  return undefined;
}

/** Whether an error is that of a message, rather than of the database. */
function isOfMessage(error: unknown): boolean {
  if (!(error instanceof HarkError)) return false;
  if (["BAD_PAYLOAD", "BAD_CHANNEL", "BAD_OPTION"].includes(error.code)) return true;
  // Class 22: a value that cannot be stored. Class 54: one that is too large.
  const state = (error.cause as { code?: unknown } | undefined)?.code;
  return typeof state === "string" && /^(22|54)/.test(state);
}
