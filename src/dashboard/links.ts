/**
 * Links to what the pages are about.
 *
 * @module
 */

import { htm, type Html, type Part } from "./html.ts";
import { count, link } from "./parts.ts";
import type { View } from "./view.ts";

/** A link to a notification. */
export function toNotification(view: View, id: number, words: Part = `notification ${id}`): Html {
  return link(view.to("/notification"), { id }, words);
}

/** A link to a consumer. */
export function toConsumer(view: View, consumer: string, kind = ""): Html {
  return link(view.to("/consumer"), { name: consumer }, htm`<bdi>${consumer}</bdi>`, kind);
}

/** A link to the notifications of a channel. */
export function toChannel(view: View, channel: string): Html {
  return link(view.to("/log"), { channel }, htm`<bdi>${channel}</bdi>`);
}

/** How many dead letters a consumer has, as a link to them. Counting stopped at 1,000. */
export function deadLetters(view: View, consumer: string, dead: number): Html {
  return counted(dead, view.to("/dead"), { consumer });
}

/** How many dead letters an inbox has, as a link to them. Counting stopped at 1,000. */
export function deadMessages(view: View, inbox: string, dead: number): Html {
  return counted(dead, view.to("/relays"), { inbox });
}

function counted(dead: number, path: string, whose: Readonly<Record<string, string>>): Html {
  return dead === 0 ? count(0) : link(path, whose, count(dead, dead >= 1000), "dead");
}
