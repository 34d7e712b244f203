/**
 * `hark relay`: publishes notifications beyond this database.
 *
 * @module
 */

import { choice } from "@optique/core/valueparser";
import { given } from "../given.ts";
import { answer, databaseCommand, show } from "./args/command.ts";
import { list, maybe, number, onlyOne, positional, refuse, toggle, words } from "./args/options.ts";
import { printError } from "./print/output.ts";
import { stopping } from "./process/signals.ts";
import { natsOf, natsOptions } from "./nats.ts";
import { visible } from "./print/style.ts";
import { countText, named, shellWord } from "./print/text.ts";
import { beginning } from "./args/values.ts";
import type { Database } from "../database/database.ts";
import type { EndpointStatus, Redriven } from "../relay/webhooks/status.ts";

/** `hark relay`. */
export const relay = databaseCommand({
  name: "relay",
  brief: "Publish channels to a stream of NATS JetStream.",
  description:
    "Publishes what is unread, then each notification as it is committed, until Ctrl-C. The keys arrive " +
    "in order, each notification once. RELAY is a consumer's id: hark status, pause, replay and dead work " +
    "on it. Start it several times to share its partitions.",
  examples: [
    ["hark relay out --stream SHOP --channels orders", "to nats://127.0.0.1:4222"],
    ["hark relay out --stream SHOP --channels orders --check", "only look whether it could"],
    ["hark relay out --stream SHOP --channels orders --dry-run", "show what it would publish"],
    [
      "hark relay out --stream SHOP --channels orders --subject 'shop.{channel}.{key}'",
      "a subject for each key",
    ],
    ["hark relay out --endpoints", "of a relay to webhooks: those that take nothing now"],
    ["hark relay out --redrive acme", "ask that endpoint again, and send what it missed"],
  ],
  options: {
    id: positional(words("RELAY"), "The relay's id, under which its position is stored."),
    stream: maybe("--stream", words("STREAM"), "The stream. It must exist."),
    channels: maybe("--channels", list("CHANNELS"), "The channels, separated by commas."),
    ...natsOptions,
    subject: maybe(
      "--subject",
      words("TEMPLATE"),
      "The subject, of {channel}, {key}, {id} and {header.NAME}. Default: {channel}.",
    ),
    oversized: maybe(
      "--oversized",
      choice(["dead", "claim"], { metavar: "WHAT" }),
      "What becomes of a payload that is too large: dead (default), a dead letter; claim, a message that " +
        "says where it is.",
    ),
    partitions: maybe(
      "--partitions",
      number("N", { least: 1, most: 1024 }),
      "How many processes can share a new relay. Default: 1.",
    ),
    inFlight: maybe(
      "--in-flight",
      number("N", { least: 1, most: 10_000 }),
      "The most messages without an acknowledgement. Default: 1000.",
    ),
    from: maybe(
      "--from",
      beginning("START", ["beginning", "now"], "--from"),
      "Where a new relay begins: beginning (default), now, an id, or a time (ISO 8601, in UTC without an offset, or 2h for two hours ago).",
    ),
    drain: toggle("--drain", "End after what is unread now."),
    check: toggle("--check", "Look whether the stream can be relied on, and publish nothing."),
    dryRun: toggle("--dry-run", "Show what would be published, and publish nothing."),
    limit: maybe(
      "--limit",
      number("N", { least: 1 }),
      "With --dry-run: show this many. Default: 20.",
    ),
    endpoints: toggle(
      "--endpoints",
      "Show the endpoints of a relay to webhooks that fail, are throttled, or are disabled; no others.",
    ),
    redrive: maybe(
      "--redrive",
      words("ENDPOINT"),
      "Ask this endpoint of a relay to webhooks again, and send what it missed.",
    ),
  },
  check(o) {
    onlyOne({
      "--drain": o.drain,
      "--check": o.check,
      "--dry-run": o.dryRun,
      "--endpoints": o.endpoints,
      "--redrive": o.redrive,
    });
    const isRun = !o.endpoints && o.redrive === undefined;
    if (isRun && o.stream === undefined) {
      refuse("--stream is missing", "Name the stream, such as --stream SHOP.");
    }
    if (isRun && o.channels === undefined) {
      refuse("--channels is missing", "Name the channels, such as --channels orders.");
    }
    if (o.limit !== undefined && !o.dryRun) refuse("--limit is for --dry-run", "Leave it out.");
  },
  async run(db, o, asJson) {
    const { jetStream, redriveEndpoint, relay, relayEndpoints } = await import("../relay/mod.ts");
    if (o.endpoints) {
      const all = await relayEndpoints(db, o.id);
      return { json: all, text: endpointsText(o.id, all) };
    }
    if (o.redrive !== undefined) {
      const done = await redriveEndpoint(db, o.id, o.redrive);
      const isOver = !done.enabled && done.retried === 0;
      return {
        json: { relay: o.id, endpoint: o.redrive, ...done },
        text: isOver ? await nothingText(db, o.id, o.redrive) : redrivenText(o.redrive, done),
      };
    }
    const { stream = "", subject, oversized } = o;
    const out = relay(db, {
      id: o.id,
      channels: o.channels!,
      to: jetStream({ ...await natsOf(o), ...given({ stream, subject, oversized }) }),
      ...given({ partitions: o.partitions, inFlight: o.inFlight, from: o.from }),
    });
    if (o.check) {
      const found = await out.check();
      const lines = [`${o.id} can publish to ${found.target}.`, ...found.warnings];
      return { json: found, text: lines.join("\n") };
    }
    if (o.dryRun) {
      let count = 0;
      for await (const { notification: { id, channel, key }, to, problem } of out.preview()) {
        const text = visible(`#${id} ${channel}: ${to ?? `refused: ${problem}`}`);
        await show({ json: { id, channel, key, to, problem }, text }, asJson);
        if (++count === (o.limit ?? 20)) break;
      }
      return { json: { relay: o.id, shown: count }, text: count > 0 ? "" : "Nothing is unread." };
    }
    using stop = stopping();
    if (o.drain) {
      const handled = await out.drain({ signal: stop.signal });
      return { json: { relay: o.id, handled }, text: `${o.id} has handled ${handled}` };
    }
    const ready = { json: { relay: o.id, ready: true }, text: `${o.id} relays until Ctrl-C.` };
    void out.ready.then(() => answer(ready, asJson), () => {}); // run() says why
    await out.run({ signal: stop.signal });
    await printError("stopped; progress is stored");
    return { json: { relay: o.id, stopped: true }, text: "" };
  },
});

/** The most dead letters in which names of endpoints are looked for. */
const mostDead = 1_000;

/** Says that an endpoint has missed nothing, with those that have: its name may be mistyped. */
async function nothingText(db: Database, relay: string, endpoint: string): Promise<string> {
  const [{ relayEndpoints }, { endpointIn }, { deadLetters }] = await Promise.all([
    import("../relay/mod.ts"),
    import("../relay/webhooks/named.ts"),
    import("../operate/dead.ts"),
  ]);
  const dead = await deadLetters(db, { consumer: relay, limit: mostDead, contents: false });
  const known = new Set([
    ...(await relayEndpoints(db, relay)).map((one) => one.endpoint),
    ...dead.flatMap(({ error }) => endpointIn(error ?? "") ?? []),
  ]);
  const others = known.size === 0
    ? "No endpoint of the relay has; the names of those that take their messages are not stored."
    : `Endpoints that have: ${[...known].sort().slice(0, 20).map(named).join(", ")}.`;
  return visible(
    `Nothing is left to send again: ${named(relay)} knows no endpoint ${
      named(endpoint)
    } that fails, is disabled or has missed anything. ${others}`,
  );
}

/** The endpoints that take nothing now, and what to do about them. */
function endpointsText(relay: string, all: readonly EndpointStatus[]): string {
  if (all.length === 0) {
    return `${named(relay)} has no endpoint that fails; those that take messages are not listed`;
  }
  return [
    ...all.map(({ endpoint, disabled, failures, askedAgainAt, reason }) => {
      const state = disabled
        ? "is disabled"
        : `has failed ${countText(failures, "time")}, and is asked again at ${
          askedAgainAt!.toISOString()
        }`;
      return visible(`${endpoint} ${state}: ${reason}`);
    }),
    "",
    `To ask one again, and send what it missed: hark relay ${shellWord(relay)} --redrive ${
      shellWord(all[0]!.endpoint)
    }`,
  ].join("\n");
}

function redrivenText(endpoint: string, { enabled, retried }: Redriven): string {
  return `${named(endpoint)} ${enabled ? "is asked again" : "did not fail"}; ${
    countText(retried, "notification")
  } to be sent`;
}
