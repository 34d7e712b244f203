/**
 * What forms do. Each act runs in one transaction, which names the visitor for the record.
 *
 * @module
 */

import { rewatch } from "../changes/watch.ts";
import { bad } from "../check.ts";
import type { LogPlace } from "../consume/start.ts";
import type { Database } from "../database/database.ts";
import type { Queryable } from "../database/queryable.ts";
import { parseExact } from "../exact_json.ts";
import { given } from "../given.ts";
import { isoTime } from "../iso_time.ts";
import { discardMessage } from "../inbox/dead.ts";
import { redriveIn } from "../inbox/dead_in_short.ts";
import { pause, removeConsumer, resume, setPartitions } from "../operate/pause.ts";
import { replayIds } from "../operate/replay_ids.ts";
import { setRetention, unsetRetention } from "../operate/retention.ts";
import { discard, type FailureChoice, retry } from "../operate/retry.ts";
import { unschedule } from "../operate/schedules.ts";
import { replay, seek } from "../operate/seek.ts";
import { cancelDelayed } from "../publish/cancel.ts";
import { notify } from "../publish/notify.ts";
import { redriveEndpoint } from "../relay/webhooks/status.ts";
import { visible } from "../visible.ts";
import { Fields } from "./fields.ts";
import type { Visitor } from "./options.ts";
import { countText } from "./parts.ts";

/** How long an act may take, in ms: a hundred thousand dead letters are moved at once. */
const patience = 25_000;

/** What was done: a sentence, and the page to go on with, if it is another. */
export interface Done {
  readonly text: string;
  readonly to?: string;
}

type Act = (tx: Queryable, fields: Fields) => Promise<Done>;

const it = (n: number) => countText(n, "notification");

/** Every act, by the name that forms send. */
const acts: Readonly<Record<string, Act>> = {
  async pause(tx, fields) {
    const consumer = fields.text("consumer");
    const changed = await pause(tx, consumer);
    return { text: `"${consumer}" ${changed ? "is paused" : "was paused already"}` };
  },
  async resume(tx, fields) {
    const consumer = fields.text("consumer");
    const changed = await resume(tx, consumer);
    return { text: `"${consumer}" ${changed ? "is resumed" : "was not paused"}` };
  },
  async retry(tx, fields) {
    const consumer = fields.text("consumer");
    const count = await retry(tx, consumer, choiceOf(fields));
    return { text: `${it(count)} of "${consumer}" ${count === 1 ? "is" : "are"} tried at once` };
  },
  async discard(tx, fields) {
    const consumer = fields.text("consumer");
    const count = await discard(tx, consumer, choiceOf(fields));
    return { text: `${it(count)} of "${consumer}" ${count === 1 ? "was" : "were"} discarded` };
  },
  async seek(tx, fields) {
    const consumer = fields.text("consumer");
    const { givenUp } = await seek(tx, consumer, placeOf(fields.text("to")));
    return {
      text: `"${consumer}" was moved to ${fields.text("to")}${
        givenUp === 0 ? "" : `; ${it(givenUp)} became dead letters`
      }`,
    };
  },
  async replay(tx, fields) {
    const consumer = fields.text("consumer");
    const to = fields.maybe("to");
    const made = await replay(tx, consumer, {
      from: idOrTime("from", fields.text("from")),
      ...given({ to: to === undefined ? undefined : idOrTime("to", to) }),
    });
    return {
      text: made === null
        ? "The log has nothing in that range"
        : `${made.capped ? "At least " : ""}${it(made.count)} of "${consumer}" ${
          made.count === 1 ? "comes" : "come"
        } again, as replay ${made.number}`,
    };
  },
  async again(tx, fields) {
    const consumer = fields.text("consumer");
    const done = await replayIds(tx, fields.ids("id"), { consumer });
    const count = done.filter(({ again }) => again).length;
    return { text: `${it(count)} of "${consumer}" ${count === 1 ? "comes" : "come"} again` };
  },
  async partitions(tx, fields) {
    const consumer = fields.text("consumer");
    const done = await setPartitions(tx, consumer, fields.number("partitions"));
    return {
      text: done === "done"
        ? `"${consumer}" has another number of partitions`
        : `"${consumer}" changes its partitions once its workers have read to a common point`,
    };
  },
  async remove(tx, fields) {
    const consumer = fields.text("consumer");
    const typed = fields.maybe("typed");
    if (asSeen(typed ?? "") !== asSeen(consumer)) {
      bad("the name", typed, `Type ${consumer} to remove it.`);
    }
    const removed = await removeConsumer(tx, consumer);
    return {
      text: removed ? `"${consumer}" was removed` : `There was no "${consumer}"`,
      to: "/consumers",
    };
  },
  async publish(tx, fields) {
    const original = fields.number("original");
    const key = fields.maybe("key");
    const id = await notify(
      tx,
      fields.text("channel"),
      json("payload", fields.text("payload")),
      {
        ...given({ key }),
        headers: {
          ...json("headers", fields.maybe("headers") ?? "{}") as Record<string, unknown>,
          anewOf: original,
        },
      },
    );
    await tx.query("select hark.record_anew($1::bigint, $2::bigint)", [original, id]);
    return { text: `Published anew as notification ${id}`, to: `/notification?id=${id}` };
  },
  async cancel(tx, fields) {
    const number = fields.number("number");
    const cancelled = await cancelDelayed(tx, number);
    return {
      text: cancelled ? "It will not be delivered" : "It was delivered or cancelled before",
    };
  },
  async unschedule(tx, fields) {
    const name = fields.text("name");
    const removed = await unschedule(tx, name);
    return { text: removed ? `The schedule "${name}" was removed` : `There was no "${name}"` };
  },
  async retention(tx, fields) {
    const channel = fields.maybe("channel");
    const keep = fields.maybe("keep");
    const options = given({ channel });
    if (keep === undefined) await unsetRetention(tx, options);
    else await setRetention(tx, keep, options);
    return { text: keep === undefined ? "The setting was removed" : `Kept for ${keep}` };
  },
  async ask(tx, fields) {
    const endpoint = fields.text("endpoint");
    const { retried } = await redriveEndpoint(tx, fields.text("relay"), endpoint);
    return { text: `"${endpoint}" is asked again; ${it(retried)} to be sent` };
  },
  async redrive(tx, fields) {
    const inbox = fields.text("inbox");
    const number = fields.maybe("number") === undefined ? undefined : fields.number("number");
    const { published, repeated, left, reason } = await redriveIn(tx, inbox, number);
    const again = repeated === 0 ? "" : `; ${countText(repeated, "message")} dropped as a repeat`;
    const failed = left === 0
      ? ""
      : `; ${countText(left, "message")} failed again, the last one by: ${reason}`;
    return { text: `${countText(published, "message")} of "${inbox}" published${again}${failed}` };
  },
  async drop(tx, fields) {
    const [inbox, number] = [fields.text("inbox"), fields.number("number")];
    const done = await discardMessage(tx, inbox, number);
    return {
      text: `Dead letter ${number} of "${inbox}" was ${done ? "discarded" : "gone already"}`,
    };
  },
  async rewatch(tx, fields) {
    const table = fields.text("table");
    await rewatch(tx, table, { name: fields.text("name") });
    return { text: `The watch of ${table} is as it should be` };
  },
};

/** A name as a person reads it on a page and can type it: spaces run together, the rest are escapes. */
function asSeen(name: string): string {
  return visible(name.replaceAll(/[\n\t ]+/g, " ").trim());
}

/** Does what a form says. @throws {HarkError} What the act throws; `BAD_OPTION` if there is none. */
export async function perform(db: Database, visitor: Visitor, form: FormData): Promise<Done> {
  const fields = new Fields(form);
  const name = fields.text("act");
  const act = Object.hasOwn(acts, name) ? acts[name]! : bad("act", name, "Send a form of a page.");
  return await db.transaction(async (tx) => {
    await tx.query(
      `select set_config('hark.person', $1::text, true), set_config('statement_timeout', $2::text, true),
        set_config('lock_timeout', '5000', true)`,
      [visitor.name, String(patience)],
    );
    return await act(tx, fields);
  });
}

/** Which notifications a form is about: ids, a filter, or all. */
export function choiceOf(fields: Fields): FailureChoice {
  const ids = fields.ids("id");
  const [channel, key, error] = ["channel", "key", "error"].map((name) => fields.maybe(name));
  const kind = fields.maybe("kind");
  return given({
    ids: ids.length === 0 ? undefined : ids,
    channel,
    key,
    error,
    all: fields.maybe("all") === undefined ? undefined : true as const,
    kind: kind === undefined
      ? undefined
      : kind === "waiting"
      ? "waiting" as const
      : "dead" as const,
  });
}

/** A place of the log as people write it. */
export function placeOf(text: string): LogPlace {
  if (text === "beginning" || text === "now") return text;
  const place = idOrTime("to", text);
  return typeof place === "number" ? { id: place } : { time: place };
}

/** An id, or a time by ISO 8601; without a zone it is UTC. */
export function idOrTime(name: string, text: string): number | Date {
  if (/^\d+$/.test(text)) return Number(text);
  return isoTime(text) ?? bad(name, text, "Give an id, or a time such as 2026-11-21T10:00Z.");
}

function json(name: string, text: string): unknown {
  try {
    return parseExact(text);
  } catch {
    return bad(name, text, "Write JSON.");
  }
}
