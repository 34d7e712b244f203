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
import { examplesFooter, plainText } from "./help.ts";
import { parsePayload } from "./json.ts";
import { type Action, database, json, toggle, words } from "./options.ts";
import { print, printJson } from "./output.ts";

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
      "Publishes a notification and prints its id. From standard input, up to 1,000 lines are " +
        "published at a time, each such batch as a whole or not at all.",
    ),
    footer: examplesFooter(
      [`hark notify orders '{"id":42}'`, "one notification"],
      [`hark notify orders '{"id":42}' --key order-42 --header by=me`, "with a key and a header"],
      ["hark notify log --text 'it is done'", "a string"],
      ["jq -c '.[]' orders.json | hark notify orders -", "one a line"],
      ["hark notify --envelope --stdin < saved.jsonl", "what `hark tail --json` wrote"],
    ),
  },
);

async function run(o: Options): Promise<number> {
  const fromStdin = o.stdin || o.payload === "-";
  check(o, fromStdin);
  const common = { key: o.key ?? null, headers: headersOf(o.header) };
  if (!fromStdin) {
    const payload = o.payload === undefined ? {} : o.text ? o.payload : parsePayload(o.payload);
    const { openDatabase } = await import("./database.ts");
    const { notify } = await import("../publish/notify.ts");
    await using db = await openDatabase(o, "notify");
    const id = await notify(db, o.channel!, payload, common);
    await (o.json ? printJson({ id, channel: o.channel }) : print(String(id)));
    return 0;
  }

  const { notificationsIn } = await import("./lines.ts");
  const { openDatabase } = await import("./database.ts");
  const { notifyMany } = await import("../publish/notify.ts");
  const batches = notificationsIn(Deno.stdin.readable, { ...o, ...common });
  await using db = await openDatabase(o, "notify");
  let published = 0;
  try {
    for await (const batch of batches) {
      const ids = await notifyMany(db, batch);
      published += ids.length;
      const line = (id: number, i: number) =>
        o.json ? JSON.stringify({ id, channel: batch[i]?.channel }) : String(id);
      await print(ids.map(line).join("\n"));
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
  if (o.stdin && o.payload !== undefined && o.payload !== "-") {
    refuse(`there is a payload ${o.payload} and --stdin`, "Give one of them.");
  }
  if (o.text && !fromStdin && o.payload === undefined) {
    refuse("--text has no text", "Give it after the channel.");
  }
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
