/**
 * `hark retention`: how long notifications are kept.
 *
 * @module
 */

import { channelName } from "../check.ts";
import { formatDuration, keepBounds, parseDuration } from "../duration.ts";
import type { RetentionSetting } from "../operate/retention.ts";
import { commandGroup, databaseCommand } from "./args/command.ts";
import { kind, maybe, positional, words } from "./args/options.ts";
import { tableOf } from "./print/table.ts";
import { ago, countText, named } from "./print/text.ts";

/** What is said while nothing is ever removed. */
export const nothingIsRemoved =
  "nothing is ever removed from the log. To keep 30 days: hark retention set 30d";

const channel = maybe(
  "--channel",
  words("CHANNEL"),
  "Only this channel. Default: all channels that have no setting of their own.",
);

const set = databaseCommand({
  name: "retention set",
  brief: "Keep notifications for a time.",
  description:
    "Workers remove what is older, within seconds and every minute from then on, one worker at a " +
    "time. They keep what a consumer has not passed, what waits or will be replayed, and dead " +
    "letters. A channel with a setting of its own goes by that alone.",
  examples: [
    ["hark retention set 30d", "keep a month"],
    ["hark retention set 12h --channel heartbeats", "one channel for less"],
    ["hark retention set forever --channel audit", "one channel for ever"],
  ],
  options: {
    keep: positional(
      kind<number | "forever">("DURATION", 0, (input) => {
        if (input === "forever") return input;
        const time = parseDuration(input);
        if (time !== undefined && time >= keepBounds.least && time <= keepBounds.most) return time;
        throw new Error(
          `DURATION is ${JSON.stringify(input)}. Give 12h, 30d or 1d12h, for example, at most ` +
            `${formatDuration(keepBounds.most)}, or forever.`,
        );
      }),
      "How long: 12h, 30d, or forever.",
    ),
    channel,
  },
  check(o) {
    if (o.channel !== undefined) channelName(o.channel);
  },
  async run(db, o) {
    const { setRetention } = await import("../operate/retention.ts");
    const { keep, ...which } = o;
    await setRetention(db, keep, which);
    return {
      json: { channel: o.channel ?? null, keep: o.keep === "forever" ? null : o.keep },
      text: `${whose(o.channel)} are kept ${
        o.keep === "forever" ? "for ever" : `for ${formatDuration(o.keep)}`
      }`,
    };
  },
});

const unset = databaseCommand({
  name: "retention unset",
  brief: "Remove a setting of retention.",
  description: "The channel is kept as all others are. Without any setting nothing is removed.",
  examples: [["hark retention unset --channel audit", "as all others from now on"]],
  options: { channel },
  async run(db, o) {
    const { unsetRetention } = await import("../operate/retention.ts");
    const changed = await unsetRetention(db, o);
    return {
      json: { channel: o.channel ?? null, changed },
      text: changed
        ? `the setting for ${whose(o.channel)} is removed`
        : `there was no setting for ${whose(o.channel)}`,
    };
  },
});

const show = databaseCommand({
  name: "retention show",
  brief: "Show how long notifications are kept, and how many were removed.",
  examples: [["hark retention", "the same, shorter"]],
  async run(db) {
    const { retention } = await import("../operate/retention.ts");
    const found = await retention(db);
    const text = tableOf(
      found,
      "channel, kept, last applied, removed",
      ({ channel, keep, appliedAt, removed }) => [
        channel ?? "all others",
        keptText(keep),
        keep === null ? "-" : ago(appliedAt),
        removed,
      ],
      nothingIsRemoved,
    );
    return { json: found, text };
  },
});

/** `hark retention`. */
export const retention = commandGroup({
  name: "retention",
  brief: "Show or set how long notifications are kept.",
  description:
    "Without one more word it shows how long notifications are kept, and how many were removed. " +
    "Workers apply the settings. Without a setting nothing is ever removed, unless you run hark " +
    "cleanup.",
  examples: [
    ["hark retention", "what is set"],
    ["hark retention set 30d", "keep a month"],
    ["hark retention unset", "remove nothing from now on"],
  ],
}, { set, unset, show });

function keptText(keep: number | null): string {
  return keep === null ? "for ever" : formatDuration(keep);
}

/** The settings in one line, for `hark status`. */
export function retentionText(found: readonly RetentionSetting[]): string {
  const rest = found.find(({ channel }) => channel === null);
  const own = found.filter(({ channel }) => channel !== null);
  return [
    rest === undefined ? "all is kept for ever" : keptText(rest.keep),
    own.length > 3
      ? `${countText(own.length, "channel")} differ: hark retention`
      : own.map(({ channel, keep }) => `${named(channel!)} ${keptText(keep)}`).join(", "),
  ].filter((part) => part !== "").join("; ");
}

function whose(channel: string | undefined): string {
  return channel === undefined ? "notifications" : `notifications on ${named(channel)}`;
}
