/**
 * `hark notify`: publishes.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, multiple, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { argument, command, option } from "@optique/core/primitives";
import { bad, channelName } from "../check.ts";
import { HarkError } from "../errors.ts";
import { type LaterOptions, laterText } from "../publish/later.ts";
import type { Published } from "../publish/notify.ts";
import { duration } from "./duration.ts";
import { examplesFooter, plainText } from "./help.ts";
import { parsePayload } from "./json.ts";
import { type Action, database, json, kind, toggle, words } from "./options.ts";
import { print } from "./output.ts";
import { surroundings } from "./surroundings.ts";

/** A moment, with its offset from UTC: without one it would be another in each time zone. */
const moment = kind("TIME", new Date(0), (input) => {
  const time = new Date(input);
  if (
    /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(input) &&
    !Number.isNaN(time.getTime())
  ) return time;
  throw new Error(`--at is ${JSON.stringify(input)}. Give a time such as 2026-12-01T10:00:00Z.`);
});

const options = object({
  channel: optional(argument(words("CHANNEL"), {
    description: plainText("1 to 200 characters. With --envelope: for lines that name none."),
  })),
  payload: optional(argument(words("PAYLOAD"), {
    description: plainText("JSON; default {}. - reads JSON lines from standard input."),
  })),
  key: optional(option("--key", words("KEY"), {
    description: plainText("What it is about; one key's notifications are handled in order."),
  })),
  header: multiple(option("--header", words("NAME=VALUE"), {
    description: plainText("A fact about it, as text. Repeatable."),
  })),
  delay: optional(option("--delay", duration("--delay"), {
    description: plainText("Deliver it so long from now: 250ms, 10s, 5m, 2h, 1d."),
  })),
  at: optional(option("--at", moment, {
    description: plainText("Deliver it at this time (ISO 8601 with Z or an offset)."),
  })),
  dedupe: optional(option("--dedupe", words("KEY"), {
    description: plainText("Publish nothing where the channel had one under this key lately."),
  })),
  within: optional(option("--within", duration("--within"), {
    description: plainText("How long --dedupe remembers a key. Default: 1d."),
  })),
  text: toggle("--text", "PAYLOAD, or each line, is plain text: publish it as a JSON string."),
  stdin: toggle("--stdin", "Read payloads from standard input, one JSON value a line."),
  envelope: toggle(
    "--envelope",
    "Lines of standard input are {channel, payload, key, headers} rather than payloads.",
  ),
  ...database,
  json,
});

type Options = InferValue<typeof options>;

/** `hark notify`. */
export const notify: Parser<"sync", Action, unknown> = command(
  "notify",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Publish notifications."),
    description: plainText(
      "Publishes a notification and prints its id; for one that is to be delivered later, the number " +
        'it waits under and "delayed". From standard input, up to 1,000 lines are published at a ' +
        "time, each such batch as a whole or not at all.",
    ),
    footer: examplesFooter(
      [`hark notify orders '{"id":42}'`, "one notification"],
      [`hark notify orders '{"id":42}' --key order-42 --header by=me`, "with a key and a header"],
      ["hark notify log --text 'it is done'", "a string"],
      ["hark notify mail '{\"to\":7}' --delay 5m", "in 5 minutes, by whoever then runs"],
      ["hark notify jobs --dedupe nightly --within 12h", "once, however often it is called"],
      ["jq -c '.[]' orders.json | hark notify orders -", "one a line"],
      ["hark notify --envelope --stdin < saved.jsonl", "what `hark tail --json` wrote"],
    ),
  },
);

async function run(o: Options): Promise<number> {
  const fromStdin = o.stdin || o.payload === "-";
  check(o, fromStdin);
  const later = laterOf(o);
  const common = { key: o.key ?? null, headers: headersOf(o.header) };
  if (!fromStdin) {
    const payload = o.payload === undefined ? {} : o.text ? o.payload : parsePayload(o.payload);
    const { openDatabase } = await import("./database.ts");
    const { publish } = await import("../publish/notify.ts");
    await using db = await openDatabase(o, "notify");
    const done = await publish(db, o.channel!, payload, { ...common, ...later });
    await print(line(done, o.channel, o.json));
    return 0;
  }

  const { notificationsIn } = await import("./ndjson.ts");
  const { openDatabase } = await import("./database.ts");
  const { publishMany } = await import("../publish/notify.ts");
  const batches = notificationsIn(surroundings().stdin.readable, { ...o, ...common });
  await using db = await openDatabase(o, "notify");
  let published = 0;
  try {
    for await (const batch of batches) {
      const done = await publishMany(db, batch.map((n) => ({ ...n, ...later })));
      published += done.length;
      await print(done.map((one, i) => line(one, batch[i]?.channel, o.json)).join("\n"));
    }
  } catch (error) {
    if (!(error instanceof HarkError) || published === 0) throw error;
    throw new HarkError(error.code, `${error.message} (${published} were published before)`, {
      cause: error,
    });
  }
  return 0;
}

function check(o: Options, fromStdin: boolean): void {
  const refuse = (what: string, remedy: string): never => {
    throw new HarkError("BAD_OPTION", what, { remedy });
  };
  if (o.channel !== undefined) channelName(o.channel);
  if (o.envelope) {
    if (!fromStdin) refuse("--envelope is about lines of standard input", "Add --stdin.");
    if (o.text) refuse("--envelope and --text contradict each other", "Give one of them.");
    if (o.key !== undefined || o.header.length > 0) {
      refuse("with --envelope, each line has its own key and headers", "Put them there.");
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
    refuse("--within says how long --dedupe remembers a key, and there is none", "Add --dedupe.");
  }
  if (o.delay !== undefined && o.at !== undefined) {
    refuse("--delay and --at contradict each other", "Give one of them.");
  }
  if (o.stdin && o.payload !== undefined && o.payload !== "-") {
    refuse(`there is a payload ${o.payload} and --stdin`, "Give one of them.");
  }
  if (o.text && !fromStdin && o.payload === undefined) {
    refuse("--text has no text", "Give it after the channel.");
  }
}

/** When it is delivered, and whether it is published once; checked, so that nothing is sent in vain. */
function laterOf({ delay, at, dedupe, within }: Options): LaterOptions {
  const later: LaterOptions = {
    ...(delay === undefined ? {} : { delay }),
    ...(at === undefined ? {} : { deliverAt: at }),
    ...(dedupe === undefined
      ? {}
      : { dedupe: { key: dedupe, ...(within === undefined ? {} : { within }) } }),
  };
  laterText(later);
  return later;
}

/** What is printed of a notification: never a number that only looks like an id. */
function line({ id, isDelayed, isDuplicate }: Published, channel?: string, json = false): string {
  if (!json) return `${id}${isDelayed ? " delayed" : ""}${isDuplicate ? " duplicate" : ""}`;
  return JSON.stringify({
    ...(isDelayed ? { delayed: id } : { id }),
    channel,
    ...(isDuplicate ? { duplicate: true } : {}),
  });
}

/** Headers from `name=value`; null where there are none. */
function headersOf(given: readonly string[]): Readonly<Record<string, string>> | null {
  if (given.length === 0) return null;
  const headers = new Map<string, string>();
  for (const header of given) {
    const at = header.indexOf("=");
    if (at < 1) bad("--header", header, "Give NAME=VALUE.");
    const name = header.slice(0, at);
    if (headers.has(name)) bad("--header", header, `Give "${name}" once.`);
    headers.set(name, header.slice(at + 1));
  }
  return Object.fromEntries(headers);
}
