/**
 * `hark notify`: publishes.
 *
 * @module
 */

import { optional } from "@optique/core/modifiers";
import { channelName } from "../check.ts";
import type { Database } from "../database/database.ts";
import { HarkError } from "../errors.ts";
import { type LaterOptions, laterText } from "../publish/later.ts";
import type { NewNotification, Published } from "../publish/notify.ts";
import { given } from "../given.ts";
import { databaseCommand, type Values } from "./args/command.ts";
import { notificationsIn, parsePayload } from "./ndjson.ts";
import {
  contradiction,
  maybe,
  nameAndValue,
  needed,
  positional,
  refuse,
  several,
  toggle,
  words,
} from "./args/options.ts";
import { jsonText, print, unlessClosed } from "./print/output.ts";
import { visible } from "./print/style.ts";
import { surroundings } from "./process/surroundings.ts";
import { numberText } from "./print/text.ts";
import { exactTime, maybeDuration } from "./args/values.ts";

const options = {
  channel: optional(
    positional(
      words("CHANNEL"),
      "1 to 200 characters. With --envelope: for lines without a channel.",
    ),
  ),
  payload: optional(
    positional(words("PAYLOAD"), "JSON; default {}. - reads JSON lines from standard input."),
  ),
  key: maybe("--key", words("KEY"), "The key. Notifications of one key are handled in order."),
  header: several(needed("--header", nameAndValue, "A header, as text. Repeatable.")),
  delay: maybeDuration("--delay", "Deliver it after this time: 250ms, 10s, 5m, 2h, 1d."),
  deliverAt: maybe("--at", exactTime, "Deliver it at this time (ISO 8601 with Z or an offset)."),
  dedupe: maybe(
    "--dedupe",
    words("KEY"),
    "Publish nothing if the channel recently had a notification with this dedupe key.",
  ),
  within: maybeDuration("--within", "How long --dedupe remembers a key. Default: 1d."),
  text: toggle("--text", "The payload, or each line, is text: publish it as a JSON string."),
  stdin: toggle("--stdin", "Read payloads from standard input, one JSON value on each line."),
  envelope: toggle(
    "--envelope",
    "Lines of standard input are {channel, payload, key, headers} and not payloads.",
  ),
};

type Options = Values<typeof options>;

/** `hark notify`. */
export const notify = databaseCommand({
  name: "notify",
  brief: "Publish notifications.",
  description:
    "Publishes a notification and prints its channel and id. A notification for later has no id " +
    'yet: the command prints "delayed" and the number that it waits under. Lines of standard input ' +
    "are published up to 1,000 at a time. Each such batch is published as a whole or not at all. All " +
    "lines are published, even if the reader of the output ends before.",
  examples: [
    [`hark notify orders '{"id":42}'`, "one notification"],
    [`hark notify orders '{"id":42}' --key order-42 --header by=me`, "with a key and a header"],
    ["hark notify log --text 'it is done'", "a string"],
    ["hark notify mail '{\"to\":7}' --delay 5m", "in 5 minutes, if a worker runs then"],
    ["hark notify jobs --dedupe nightly --within 12h", "once, however often it is called"],
    ["jq -c '.[]' orders.json | hark notify orders -", "one for each line"],
    ["hark notify --envelope --stdin < saved.jsonl", "what `hark tail --json` wrote"],
  ],
  options,
  check,
  async run(db, o, json) {
    if (isFromStdin(o)) return await publishLines(db, o, json);
    const { publish } = await import("../publish/notify.ts");
    const done = await publish(db, o.channel!, payloadOf(o), { ...commonOf(o), ...laterOf(o) });
    await print(line(done, o.channel!, json));
  },
});

async function publishLines(db: Database, o: Options, json: boolean): Promise<void> {
  const { notifyEach } = await import("../publish/notify.ts");
  const later = laterOf(o);
  const input = surroundings().stdin.readable;
  let published = 0;
  try {
    for await (const batch of notificationsIn(input, { ...o, ...commonOf(o) })) {
      const done = await notifyEach(db, batch.map((n) => ({ ...n, ...later })));
      published += done.length;
      const lines = done.map((one, i) => line(one, batch[i]!.channel, json));
      await print(lines.join("\n")).catch(unlessClosed);
    }
  } catch (error) {
    if (!(error instanceof HarkError) || published === 0) throw error;
    const before = `${numberText(published)} were published before`;
    throw new HarkError(error.code, `${error.message} (${before})`, { cause: error });
  }
}

function isFromStdin(o: Options): boolean {
  return o.stdin || o.payload === "-";
}

function payloadOf({ payload, text }: Options): unknown {
  return payload === undefined ? {} : text ? payload : parsePayload(payload);
}

function commonOf(o: Options): Required<Pick<NewNotification, "key" | "headers">> {
  return { key: o.key ?? null, headers: headersOf(o.header) };
}

/** Refuses what cannot be published, before anything is connected to or published. */
function check(o: Options): void {
  const fromStdin = isFromStdin(o);
  if (o.channel !== undefined) channelName(o.channel);
  if (o.envelope) {
    if (!fromStdin) refuse("--envelope is about lines of standard input", "Add --stdin.");
    if (o.text) contradiction("--envelope", "--text");
    if ((o.key ?? o.header) !== undefined) {
      refuse("with --envelope, each line has its own key and headers", "Put them into the lines.");
    }
  } else if (o.channel === undefined) {
    refuse("there is no channel", `Give one: hark notify orders '{"id":42}'`);
  }
  if (o.dedupe !== undefined && fromStdin) {
    refuse(
      "--dedupe is about one notification: each line would be a duplicate of the first",
      "Publish them one by one.",
    );
  }
  if (o.within !== undefined && o.dedupe === undefined) {
    refuse("--within sets how long --dedupe remembers a key, and there is no key", "Add --dedupe.");
  }
  if (o.delay !== undefined && o.deliverAt !== undefined) contradiction("--delay", "--at");
  if (o.stdin && o.payload !== undefined && o.payload !== "-") {
    contradiction(`the payload ${o.payload}`, "--stdin");
  }
  if (o.text && !fromStdin && o.payload === undefined) {
    refuse("--text has no text", "Give it after the channel.");
  }
  laterText(laterOf(o));
  headersOf(o.header);
  if (!fromStdin) payloadOf(o);
}

/** When it is delivered, and whether it is published only once. */
function laterOf({ delay, deliverAt, dedupe, within }: Options): LaterOptions {
  return given({
    delay,
    deliverAt,
    dedupe: dedupe === undefined ? undefined : given({ key: dedupe, within }),
  });
}

/** The line for a notification. The number of a delayed one must not look like an id. */
function line({ id, isDelayed, isDuplicate }: Published, channel: string, json: boolean): string {
  if (!json) {
    const what = isDelayed ? `delayed ${id}` : `#${id}`;
    return `${visible(channel)} ${what}${isDuplicate ? " duplicate" : ""}`;
  }
  return jsonText({
    ...(isDelayed ? { delayed: id } : { id }),
    channel,
    ...(isDuplicate ? { duplicate: true } : {}),
  });
}

/** The headers; null without any. */
function headersOf(given: Options["header"] = []): Readonly<Record<string, string>> | null {
  const headers = new Map(given);
  if (headers.size < given.length) {
    refuse(`--header names a header twice: ${[...headers.keys()].join(", ")}`, "Give each once.");
  }
  return given.length === 0 ? null : Object.fromEntries(headers);
}
