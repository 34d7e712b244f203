/**
 * `hark consumers`: lists consumers, shows one, changes its partitions, removes it.
 *
 * @module
 */

import { consumerName } from "../check.ts";
import { consumerRules } from "../consume/option_table.ts";
import type {
  ConsumerDetails,
  PartitionStatus,
  WaitingNotification,
  WorkerStatus,
} from "../operate/consumers.ts";
import type { ConsumerStatus } from "../operate/consumer_status.ts";
import { commandGroup, databaseCommand } from "./args/command.ts";
import { consumer, number, positional, refuse, toggle } from "./args/options.ts";
import { nextAttempt } from "./next_attempt.ts";
import { leaseText, workerText } from "./served_by.ts";
import { surroundings } from "./process/surroundings.ts";
import { blocks, type Cell, count, facts, plain, table, tableOf } from "./print/table.ts";
import { ago, countText, named, numberText, shellWord, shortened } from "./print/text.ts";

const list = databaseCommand({
  name: "consumers list",
  brief: "Show every consumer: what it reads and how it stands.",
  examples: [
    ["hark consumers list", "for people"],
    ["hark consumers list --json", "for a program"],
  ],
  async run(db) {
    const { consumers } = await import("../operate/consumers.ts");
    const found = await consumers(db);
    return {
      json: found,
      text: tableOf(
        found,
        "consumer, channels, kind, workers, unread, waiting, dead, last served",
        (one) => [
          one.consumer,
          shortened(one.channels.join(", ")),
          kindOf(one) || "-",
          one.workers,
          unread(one),
          count(one.waiting, "yellow"),
          count(one.dead, "red"),
          one.workers > 0 ? "now" : ago(one.servedAt ?? one.acknowledgedAt),
        ],
        "no consumer is registered",
      ),
    };
  },
});

function unread(one: ConsumerStatus) {
  return count(one.unread, one.serving ? undefined : "yellow", one.unreadCapped);
}

/** In what it differs from an ordinary consumer. */
function kindOf(one: ConsumerStatus): string {
  return [
    one.pausedAt === null ? "" : "paused",
    one.partitions === 1 ? "" : partitionsText(one),
    one.transactional ? "transactional" : "",
    one.filter === null ? "" : "filtered",
    one.generation === 1 ? "" : `generation ${one.generation}`,
  ].filter((part) => part !== "").join(", ");
}

function partitionsText({ partitions, nextPartitions }: ConsumerStatus): string {
  return countText(partitions, "partition") +
    (nextPartitions === null ? "" : `, changing to ${nextPartitions}`);
}

const show = databaseCommand({
  name: "consumers show",
  brief: "Show one consumer: its partitions, its workers, what it fails on.",
  examples: [["hark consumers show billing", "everything about it"]],
  options: { consumer },
  async run(db, o) {
    const { consumerDetails } = await import("../operate/consumers.ts");
    const found = await consumerDetails(db, o.consumer);
    return { json: found, text: detailsText(found) };
  },
});

function detailsText(one: ConsumerDetails): string {
  const { partitionList, workerList, heads, replayList } = one;
  return blocks(
    facts([
      ["consumer", one.consumer],
      ["channels", one.channels.join(", ")],
      ...(one.filter === null ? [] : [["filter", JSON.stringify(one.filter)] as const]),
      ...(kindOf(one) === "" ? [] : [["kind", kindOf(one)] as const]),
      ["registered", ago(one.createdAt)],
      ["handled", numberText(one.handled)],
      ["unread", { ...unread(one), right: false }],
      ["waiting", count(one.waiting, "yellow")],
      ["dead letters", count(one.dead, "red")],
    ]),
    table(
      "partition, unread, waiting, served by, handled, last progress, notes",
      partitionList.map((p): Cell[] => [
        p.partition,
        p.unread,
        count(p.waiting, "yellow"),
        partitionServed(p),
        p.handled,
        ago(p.acknowledgedAt),
        {
          text: [
            p.blocked ? "failing" : "",
            p.crashes === 0 ? "" : `${countText(p.crashes, "worker")} crashed in it`,
            p.tryingId === null ? "" : `tries ${p.tryingId} alone`,
          ].filter((note) => note !== "").join(", ") || "-",
          style: p.blocked || p.crashes > 0 ? "red" : undefined,
        },
      ]),
    ),
    tableOf(workerList, "worker, alive, since, partitions, woken by", workerRow, "no worker"),
    tableOf(
      heads,
      "waiting, state, attempts, next attempt, key, error",
      (head) => headRow(head, one),
    ),
    unlistedText(one),
    tableOf(
      replayList,
      "replay, next id, last id, channels",
      ({ replay, nextId, toId, channels }) => [
        plain(replay),
        plain(nextId),
        plain(toId),
        channels === null ? "all" : channels.join(", "),
      ],
    ),
  );
}

function workerRow(one: WorkerStatus): Cell[] {
  return [
    workerText(one.name, one.owner),
    one.alive ? "yes" : { text: `no, ${leaseText(one.leaseUntil)}`, style: "yellow" },
    ago(one.joinedAt),
    one.partitions.length === 0 ? "none" : shortened(one.partitions.join(", ")),
    one.listening ? "LISTEN" : "polling",
  ];
}

function partitionServed({ serving, worker, owner, leaseUntil }: PartitionStatus): string {
  if (serving) return workerText(worker, owner);
  return owner === null || leaseUntil === null
    ? "no worker"
    : `no worker, ${leaseText(leaseUntil)}`;
}

function headRow(one: WaitingNotification, { workers, pausedAt }: ConsumerDetails): Cell[] {
  const { state, dueAt } = one;
  return [
    plain(one.id),
    state,
    one.attempts,
    nextAttempt({ state, due: dueAt, hasWorker: workers > 0, isPaused: pausedAt !== null }),
    one.key ?? "-",
    { text: one.error ?? "-", style: one.error === null ? undefined : "red" },
  ];
}

/** The most heads that are listed. */
const mostHeads = 20;

/** How many wait that are not listed: those behind the heads, and heads beyond the listed ones. */
function unlistedText({ heads, waiting }: ConsumerDetails): string {
  const rest = waiting - heads.length;
  if (rest <= 0) return "";
  if (heads.length < mostHeads) {
    return `and ${numberText(rest)} behind ${heads.length === 1 ? "it" : "them"}`;
  }
  return `and ${numberText(rest)} more, or behind them`;
}

const remove = databaseCommand({
  name: "consumers remove",
  brief: "Remove a consumer with its position and its dead letters.",
  description:
    "It will never see what it has not read, and a worker that serves it ends with an error. On a " +
    "terminal the command asks first; elsewhere --yes is needed.",
  examples: [["hark consumers remove billing --yes", "without asking"]],
  options: {
    consumer,
    yes: toggle("--yes", "Do not ask. Needed without a terminal."),
  },
  check: (o) => void consumerName(o.consumer),
  async run(db, o) {
    const { consumerDetails } = await import("../operate/consumers.ts");
    const { removeConsumer } = await import("../operate/pause.ts");
    const name = named(o.consumer);
    const { unread, unreadCapped, waiting, dead } = await consumerDetails(db, o.consumer);
    const what = `this removes ${name} with ${numberText(unread)}${
      unreadCapped ? "+" : ""
    } unread, ${numberText(waiting)} waiting and ${countText(dead, "dead letter")}`;
    if (!confirmed(o.yes, what, `hark consumers remove ${shellWord(o.consumer)}`)) {
      const json = { consumer: o.consumer, removed: false };
      return { json, text: "nothing was removed", code: 1 };
    }
    const removed = await removeConsumer(db, o.consumer);
    const text = removed ? `${name} is removed` : `${name} was removed already`;
    return { json: { consumer: o.consumer, removed }, text };
  },
});

/** Asks on a terminal; elsewhere `--yes` is needed. */
function confirmed(yes: boolean, what: string, command: string): boolean {
  if (yes) return true;
  if (surroundings().stdin.isTerminal()) return confirm(`${what}. Go on?`);
  return refuse(what, `If that is what you want: ${command} --yes`);
}

const partitions = databaseCommand({
  name: "consumers partitions",
  brief: "Change the number of a consumer's partitions.",
  description:
    "The number of partitions limits how many workers can share the consumer. Its workers first " +
    "read to a common point, so that each key keeps its order. Until then the change is pending. The number that it has takes " +
    "the change back. It is refused while a partition is held up: see hark status.",
  examples: [["hark consumers partitions billing 8", "for up to 8 workers"]],
  options: {
    consumer,
    count: positional(
      number("N", consumerRules.partitions),
      "The number of partitions, 1 to 1024.",
    ),
  },
  async run(db, o) {
    const { setPartitions } = await import("../operate/pause.ts");
    const outcome = await setPartitions(db, o.consumer, o.count);
    const how = countText(o.count, "partition");
    return {
      json: { consumer: o.consumer, partitions: o.count, outcome },
      text: outcome === "done"
        ? `${named(o.consumer)} has ${how}`
        : `${named(o.consumer)} will have ${how} once its workers have read to a common point; ` +
          `see: hark consumers show ${shellWord(o.consumer)}`,
    };
  },
});

/** `hark consumers`. */
export const consumers = commandGroup({
  name: "consumers",
  brief: "List consumers, show one, change its partitions, remove it.",
  description: "Consumers are registered in the database, whether a worker runs them or not.",
  examples: [
    ["hark consumers list", "all of them"],
    ["hark consumers show billing", "one, with its partitions and workers"],
    ["hark consumers remove billing", "one that will not come back"],
  ],
}, { list, show, remove, partitions });
