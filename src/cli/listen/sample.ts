/**
 * The consumer that `hark listen` runs without a module: it prints each notification.
 *
 * @module
 */

import { Consumer } from "../../consume/consumer.ts";
import type { Notification } from "../../consume/notification.ts";
import type { Queryable } from "../../database/queryable.ts";
import { paint, visible } from "../print/style.ts";
import type { Found } from "./modules.ts";

/** A consumer that prints each notification of the channel "orders". */
export function sampleConsumer(db: Queryable): Found {
  const channels = ["orders"];
  const consumer = new Consumer(db, {
    id: "sample",
    channels,
    handle: (notification) => console.log(notificationLine(notification)),
  });
  return { id: "sample", channels, module: "the built-in sample", consumer };
}

/** A notification on one line that begins with `replay` or `live`. */
export function notificationLine(n: Notification): string {
  const kind = n.isReplay ? paint("yellow", "replay") : paint("green", "live  ");
  const key = n.key === null ? "" : paint("dim", ` key=${visible(n.key)}`);
  if (n.problem !== undefined) {
    return `${kind} ${paint("cyan", visible(n.channel))} #${n.id} ${
      paint("red", visible(`cannot be read: ${n.problem}`))
    }${key}`;
  }
  const headers = Object.keys(n.headers).length === 0
    ? ""
    : paint("dim", ` headers=${visible(JSON.stringify(n.headers))}`);
  const attempt = n.attempt === 1 ? "" : paint("red", ` attempt ${n.attempt}`);
  const time = paint("dim", n.createdAt.toISOString().replace("T", " "));
  return `${kind} ${time} ${paint("cyan", visible(n.channel))} #${n.id} ${
    visible(n.payloadText)
  }${key}${headers}${attempt}`;
}
