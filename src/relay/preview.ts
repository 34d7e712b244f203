/**
 * A dry run: where a relay would publish what is unread.
 *
 * @module
 */

import { namesOf } from "../consume/check_options.ts";
import type { Notification } from "../consume/notification.ts";
import { subscribe } from "../consume/subscribe.ts";
import type { Queryable } from "../database/queryable.ts";
import { messageOf } from "../database/translate.ts";
import { consumers } from "../operate/consumers.ts";
import { timeAgo } from "../operate/holding.ts";
import { messageId } from "./message.ts";
import type { RelayOptions } from "./options.ts";
import type { OpenSink } from "./sink.ts";

/** What a relay would do with a notification: see {@linkcode Relay.preview}. */
export interface RelayPreview {
  /** The notification. */
  readonly notification: Notification;
  /** The id that its message would have: `hark:INSTALL:ID`. */
  readonly id: string;
  /** Where it would go, in words. Undefined if it would be refused. */
  readonly to: string | undefined;
  /** Why it would be refused. Undefined if it would not. */
  readonly problem: string | undefined;
}

/** Tells for what is unread where it would go. See {@linkcode Relay.preview}. */
export async function* previews(
  db: Queryable,
  { id: relay, channels, from = "beginning" }: RelayOptions,
  sink: OpenSink,
  install: string,
  signal: AbortSignal,
): AsyncGenerator<RelayPreview, void> {
  const oldest = await oldestUnread(db, relay);
  if (oldest === null) return;
  const begin = oldest === undefined ? from : { time: oldest };
  for await (
    const notification of subscribe(db, namesOf(channels) ?? null, { from: begin, follow: false })
  ) {
    if (oldest !== undefined && notification.createdAt < oldest) continue;
    const id = messageId(install, notification.id);
    try {
      const to = await sink.describe({ id, install, notification }, signal);
      yield { notification, id, to, problem: undefined };
    } catch (error) {
      yield { notification, id, to: undefined, problem: messageOf(error) };
    }
  }
}

/**
 * When the oldest notification was published that a relay has to read: null if there is none. Of a long
 * backlog in which none was found, a time before it.
 */
async function oldestUnread(db: Queryable, id: string): Promise<Date | null | undefined> {
  const one = (await consumers(db)).find(({ consumer }) => consumer === id);
  if (one === undefined) return undefined;
  if (one.oldestUnread !== null || !one.unreadCapped) return one.oldestUnread;
  return await timeAgo(db, one.lagSeconds * 1000 + 1000);
}
