/**
 * A call of each command that ends by itself, in an order in which each finds what it needs.
 *
 * @module
 */

import { join } from "node:path";
import { PROJECT } from "../../harness/mod.ts";
import { natsRuns, natsUrl } from "../../harness/nats.ts";

/** A call of a command. */
export interface Call {
  readonly command: string;
  readonly args: readonly string[];
  /** Whether it takes no database. */
  readonly alone?: boolean;
}

/** What the database has before the first call. */
export const before = [
  "select hark.register('r', array['orders'])",
  "select hark.notify('orders', '{}')",
  "create table users (id integer primary key)",
];

/** Commands that run until they are ended: see tests/cli/embedded_test.ts, tests/dashboard/command_test.ts. */
export const lasting: readonly string[] = [
  "dev",
  "dashboard",
  ...natsRuns ? [] : ["relay", "inbox"],
];

/**
 * The calls.
 *
 * @param folder Where files may be written.
 * @param wakeUrl Where to send a wake.
 * @param stream A stream of NATS, where that runs.
 */
export function calls(folder: string, wakeUrl: string, stream: string | undefined): Call[] {
  const nats = ["--nats", natsUrl, "--drain", "--stream", stream ?? ""];
  return [
    { command: "sql", args: [], alone: true },
    { command: "new", args: [join(folder, "shop")], alone: true },
    { command: "channels", args: [join(PROJECT, "examples/channels.ts")], alone: true },
    { command: "listen", args: [join(PROJECT, "examples/consumers/orders.ts"), "--drain"] },
    { command: "init", args: [] },
    { command: "notify", args: ["orders"] },
    { command: "wake", args: ["--to", wakeUrl] },
    { command: "tail", args: ["--from", "beginning", "--limit", "1"] },
    { command: "status", args: [] },
    { command: "check", args: ["--max-lag", "1d"] },
    { command: "doctor", args: [] },
    { command: "log", args: ["list"] },
    { command: "delayed", args: ["list"] },
    { command: "watch", args: ["add", "public.users", "--snapshot"] },
    { command: "watch", args: ["list"] },
    { command: "watch", args: ["sql", "public.users"] },
    { command: "watch", args: ["remove", "public.users"] },
    { command: "consumers", args: ["list"] },
    { command: "workers", args: [] },
    { command: "acts", args: [] },
    { command: "dead", args: ["list"] },
    { command: "retry", args: ["r", "--all"] },
    { command: "discard", args: ["r", "--all"] },
    { command: "schedule", args: ["add", "s", "0 3 * * *", "orders"] },
    { command: "schedule", args: ["next", "s"] },
    { command: "retention", args: ["set", "30d"] },
    { command: "retention", args: [] },
    { command: "seek", args: ["r", "now"] },
    { command: "replay", args: ["r", "--from", "1"] },
    { command: "pause", args: ["r"] },
    { command: "resume", args: ["r"] },
    { command: "cleanup", args: ["--older-than", "1d"] },
    ...natsRuns
      ? [
        { command: "relay", args: ["out", "--channels", "none", ...nats] },
        { command: "inbox", args: ["in", ...nats] },
      ]
      : [],
    { command: "uninstall", args: ["--yes"] },
  ];
}
