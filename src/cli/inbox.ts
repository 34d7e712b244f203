/**
 * `hark inbox`: publishes the messages of a stream.
 *
 * @module
 */

import { parseExact } from "../exact_json.ts";
import { given } from "../given.ts";
import { answer, databaseCommand } from "./args/command.ts";
import { exitCodes } from "./exit_codes.ts";
import { natsOf, natsOptions } from "./nats.ts";
import type { DeadMessage } from "../inbox/dead.ts";
import type { InboxMessage } from "../inbox/options.ts";
import type { Taken } from "../inbox/taken.ts";
import { maybe, number, onlyOne, positional, refuse, toggle, words } from "./args/options.ts";
import { complain, printError } from "./print/output.ts";
import { stopping } from "./process/signals.ts";
import { visible } from "./print/style.ts";
import { countText, named, numberText, shellWord } from "./print/text.ts";

/** `hark inbox`. */
export const inbox = databaseCommand({
  name: "inbox",
  brief: "Publish the messages of a stream of NATS JetStream.",
  description:
    "Publishes what the stream has, then each message as it comes, until Ctrl-C: in order, each once. A " +
    "message of a relay becomes what it was. Of any other, the subject is the channel and the key, and the " +
    "body is the payload, as JSON. What cannot be published is kept as a dead letter.",
  examples: [
    ["hark inbox in --stream SHOP", "from nats://127.0.0.1:4222"],
    ["hark inbox in --stream SHOP --channel shop", "all on one channel"],
    ["hark inbox in --dead", "show the messages that could not be published"],
    ["hark inbox in --redrive", "publish those, after the repair"],
    ["hark inbox in --discard 42", "give up one that can never be published"],
  ],
  options: {
    id: positional(words("INBOX"), "The inbox's id, under which its place is stored."),
    stream: maybe("--stream", words("STREAM"), "The stream. It must exist."),
    subject: maybe("--subject", words("SUBJECT"), "Which subjects to take. Default: all."),
    channel: maybe(
      "--channel",
      words("CHANNEL"),
      "Publish on this channel. The subject is the key, and the body is the payload.",
    ),
    ...natsOptions,
    batchSize: maybe(
      "--batch-size",
      number("N", { least: 1, most: 10_000 }),
      "The most messages in a transaction. Default: 500.",
    ),
    fromNow: toggle("--from-now", "Begin a new inbox behind the stream's last message."),
    drain: toggle("--drain", "End after what the stream has now."),
    dead: toggle("--dead", "Show the dead letters."),
    redrive: toggle("--redrive", "Publish the dead letters. Those that fail again stay."),
    discard: maybe(
      "--discard",
      number("NUMBER", { least: 1 }),
      "Give up the dead letter of this number for good.",
    ),
  },
  check(o) {
    const { drain, dead, redrive, discard } = o;
    onlyOne({ "--drain": drain, "--dead": dead, "--redrive": redrive, "--discard": discard });
    if (o.stream === undefined && !dead && !redrive && discard === undefined) {
      refuse("--stream is missing", "Name the stream, such as --stream SHOP.");
    }
  },
  async run(db, o, asJson) {
    const { deadMessages, discardMessage, inbox, redrive } = await import("../inbox/mod.ts");
    const { id, stream = "", subject, channel, batchSize } = o;
    const map = channel === undefined ? undefined : (message: InboxMessage) => {
      message.json(); // says of a body that it is no JSON
      return { channel, payload: parseExact(message.text()), key: message.subject };
    };
    if (o.dead) {
      const dead = await Array.fromAsync(deadMessages(db, id));
      return { json: dead.map(inShort), text: deadText(id, dead) };
    }
    if (o.redrive) {
      const { published, repeated, left } = await redrive(db, id, given({ map }));
      const json = { published, repeated, left: left.length };
      const again = [
        `${numberText(published)} published`,
        ...some(repeated, "dropped as repeats"),
        `${numberText(left.length)} failed again`,
      ].join(", ");
      return { json, text: left.length === 0 ? again : `${again}\n\n${deadText(id, left)}` };
    }
    if (o.discard !== undefined) {
      const isDone = await discardMessage(db, id, o.discard);
      if (!isDone) {
        await complain(
          `${named(id)} has no dead letter ${o.discard}. See hark inbox ${shellWord(id)} --dead`,
        );
      }
      return {
        json: { inbox: id, discarded: isDone ? 1 : 0 },
        text: isDone ? `dead letter ${o.discard} of ${named(id)} is given up` : "",
        code: isDone ? exitCodes.ok : exitCodes.failed,
      };
    }
    const { nothingTaken, together } = await import("../inbox/taken.ts");
    let taken = nothingTaken;
    const from = o.fromNow ? "now" as const : undefined;
    const incoming = inbox(db, {
      ...await natsOf(o),
      id,
      stream,
      ...given({ subject, batchSize, map, from }),
      onTaken: (batch) => taken = together(taken, batch),
    });
    using stop = stopping();
    if (o.drain) {
      const drained = await incoming.drain({ signal: stop.signal });
      return { json: { inbox: id, ...drained }, text: takenText(id, drained) };
    }
    const ready = { json: { inbox: id, ready: true }, text: `${id} takes messages until Ctrl-C.` };
    void incoming.ready.then(() => answer(ready, asJson), () => {}); // run() says why
    await incoming.run({ signal: stop.signal });
    await printError("stopped; progress is stored");
    return { json: { inbox: id, stopped: true, ...taken }, text: takenText(id, taken) };
  },
});

function some(count: number, what: string): string[] {
  return count === 0 ? [] : [`${numberText(count)} ${what}`];
}

/** What messages became. What is not as expected is named only if there is any. */
function takenText(id: string, taken: Taken): string {
  const { messages, published, own, unmapped, repeated, dead } = taken;
  const parts = [
    `${numberText(published)} published`,
    ...some(own, "of this install left out"),
    ...some(unmapped, "left out by map"),
    ...some(repeated, "dropped as repeats"),
    ...some(dead, `dead: hark inbox ${shellWord(id)} --dead`),
  ];
  return `${visible(id)} has taken ${countText(messages, "message")}: ${parts.join(", ")}`;
}

function inShort({ number, message: { sequence, subject }, reason }: DeadMessage) {
  return { number, sequence, subject, reason };
}

/** Dead letters, and what to do about them. */
function deadText(id: string, dead: readonly DeadMessage[]): string {
  if (dead.length === 0) return `${named(id)} has no dead letters`;
  const command = `hark inbox ${shellWord(id)}`;
  return [
    ...dead.map(inShort).map((one) =>
      visible(`#${one.number} ${one.subject}, message ${one.sequence}: ${one.reason}`)
    ),
    "",
    `To publish them after the repair: ${command} --redrive`,
    `To give one up: ${command} --discard ${dead[0]!.number}`,
    "A body that is no JSON needs redrive() with a map that takes it, such as payload: message.text().",
  ].join("\n");
}
