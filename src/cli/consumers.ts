/**
 * `hark consumers`: lists consumers, shows one, divides it, removes it.
 *
 * @module
 */

import { object, or } from "@optique/core/constructs";
import { map } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { argument, command } from "@optique/core/primitives";
import { consumerName } from "../check.ts";
import type { ConsumerDetails } from "../operate/consumers.ts";
import type { ConsumerStatus } from "../operate/status.ts";
import { ago, confirmed, consumer, leaseEnd, quoted, secondWord, shortened } from "./consumer.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, number, toggle } from "./options.ts";
import { countText, numberText, print, printJson, table, visible, visibleLines } from "./output.ts";

const listOptions = object({ ...database, json });
const showOptions = object({ consumer, ...database, json });
const removeOptions = object({
  consumer,
  yes: toggle("--yes", "Do not ask. Needed where nobody can be asked."),
  ...database,
  json,
});
const partitionsOptions = object({
  consumer,
  count: argument(number("N", { least: 1, most: 1024 }), {
    description: plainText("Into how many, 1 to 1024."),
  }),
  ...database,
  json,
});

/** `hark consumers`. */
export const consumers: Parser<"sync", Action, unknown> = command(
  "consumers",
  or(
    command("list", map(listOptions, (o) => () => list(o)), {
      brief: plainText("Show every consumer: what it is and how it stands."),
      footer: examplesFooter(["hark consumers list", "for people"], [
        "hark consumers list --json",
        "for a program",
      ]),
    }),
    command("show", map(showOptions, (o) => () => show(o)), {
      brief: plainText("Show one: its partitions, its workers, what it fails on."),
      footer: examplesFooter(["hark consumers show billing", "all there is to know"]),
    }),
    command("remove", map(removeOptions, (o) => () => remove(o)), {
      brief: plainText("Remove one with its position and its dead letters."),
      description: plainText(
        "What it has not read it will never see; a worker that serves it ends with an error. On a " +
          "terminal it asks; elsewhere --yes is needed.",
      ),
      footer: examplesFooter(["hark consumers remove billing --yes", "without asking"]),
    }),
    command("partitions", map(partitionsOptions, (o) => () => partitions(o)), {
      brief: plainText("Change into how many partitions one is divided."),
      description: plainText(
        "How many workers can share it. Its workers first read to a common point, so that the order " +
          "of no key is broken; until then the change is pending.",
      ),
      footer: examplesFooter(["hark consumers partitions billing 8", "for up to 8 workers"]),
    }),
    { errors: secondWord("consumers", ["list", "show", "remove", "partitions"]) },
  ),
  {
    brief: plainText("List consumers, show, divide or remove one."),
    description: plainText("What is registered in the database, whether or not it runs."),
    footer: examplesFooter(
      ["hark consumers list", "every one"],
      ["hark consumers show billing", "one, with partitions and workers"],
      ["hark consumers remove billing", "it will not come back"],
    ),
  },
);

async function list(o: InferValue<typeof listOptions>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { consumers } = await import("../operate/consumers.ts");
  await using db = await openDatabase(o, "consumers");
  const found = await consumers(db);
  if (o.json) await printJson(found);
  else if (found.length === 0) await print("no consumer is registered");
  else {
    await print(table(
      ["consumer", "channels", "kind", "workers", "unread", "waiting", "dead", "last served"],
      found.map((one) => [
        one.consumer,
        shortened(one.channels.join(", ")),
        kindOf(one),
        String(one.workers),
        numberText(one.unread) + (one.unreadCapped ? "+" : ""),
        numberText(one.waiting),
        numberText(one.dead),
        one.workers > 0 ? "now" : ago(one.servedAt ?? one.acknowledgedAt),
      ]),
    ));
  }
  return 0;
}

/** What is not ordinary about it. */
function kindOf(one: ConsumerStatus): string {
  return [
    one.pausedAt === null ? "" : "paused",
    one.partitions === 1 ? "" : countText(one.partitions, "partition"),
    one.nextPartitions === null ? "" : `to be ${one.nextPartitions}`,
    one.transactional ? "transactional" : "",
    one.filter === null ? "" : "filtered",
    one.generation === 1 ? "" : `generation ${one.generation}`,
  ].filter((part) => part !== "").join(", ") || "-";
}

async function show(o: InferValue<typeof showOptions>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { consumerDetails } = await import("../operate/consumers.ts");
  await using db = await openDatabase(o, "consumers");
  const found = await consumerDetails(db, o.consumer);
  if (o.json) await printJson(found);
  else for (const line of details(found)) await print(line);
  return 0;
}

function details(one: ConsumerDetails): string[] {
  const blocks = [
    [
      `"${visible(one.consumer)}" reads ${one.channels.map((c) => `"${visible(c)}"`).join(", ")}`,
      ...(one.filter === null ? [] : [`filter: ${visible(JSON.stringify(one.filter))}`]),
      `${kindOf(one)}; registered ${ago(one.createdAt)}`,
      `${numberText(one.unread)}${one.unreadCapped ? "+" : ""} unread, ${
        numberText(one.waiting)
      } waiting, ${countText(one.dead, "dead letter")}, ${numberText(one.handled)} handled`,
      ...one.replayList.map(({ replay, nextId, toId, channels }) =>
        `replay ${replay}: ids ${nextId} to ${toId}${
          channels === null ? "" : ` of ${channels.map(visible).join(", ")}`
        } still to come`
      ),
    ].join("\n"),
    table(
      ["partition", "unread", "waiting", "held", "handled", "acknowledged", "notes"],
      one.partitionList.map((p) => [
        String(p.partition),
        numberText(p.unread),
        numberText(p.waiting),
        p.owner === null ? "no" : `by ${p.owner.slice(0, 8)}`,
        numberText(p.handled),
        ago(p.acknowledgedAt),
        [
          p.blocked ? "failing" : "",
          p.crashes === 0 ? "" : `${countText(p.crashes, "owner")} ended in it`,
          p.tryingId === null ? "" : `trying ${p.tryingId} alone`,
        ].filter((note) => note !== "").join(", ") || "-",
      ]),
    ),
    one.workerList.length === 0 ? "no worker" : table(
      ["worker", "alive", "since", "partitions", "wakes by"],
      one.workerList.map((w) => [
        w.owner.slice(0, 8),
        w.alive ? "yes" : `no, ${leaseEnd(w.leaseUntil)}`,
        ago(w.joinedAt),
        w.partitions.length === 0 ? "none" : shortened(w.partitions.join(", ")),
        w.listening ? "LISTEN" : "polling",
      ]),
    ),
    ...one.heads.map((head) =>
      `${head.id} ${head.state}, ${countText(head.attempts, "attempt")}, ${
        head.dueAt.getTime() > Date.now() ? `due ${head.dueAt.toISOString()}` : "due now"
      }${head.key === null ? "" : `, key ${visible(head.key)}`}: ${
        visibleLines(head.error ?? "no error")
      }`
    ),
  ];
  return blocks;
}

async function remove(o: InferValue<typeof removeOptions>): Promise<number> {
  const name = consumerName(o.consumer);
  const { openDatabase } = await import("./database.ts");
  const { consumerDetails } = await import("../operate/consumers.ts");
  const { removeConsumer } = await import("../operate/pause.ts");
  await using db = await openDatabase(o, "consumers");
  const found = await consumerDetails(db, name);
  const what = `this removes "${visible(name)}" with ${numberText(found.unread)}${
    found.unreadCapped ? "+" : ""
  } unread, ${numberText(found.waiting)} waiting and ${countText(found.dead, "dead letter")}`;
  if (!confirmed(o.yes, what, `hark consumers remove ${quoted(name)}`)) {
    await print("nothing was removed");
    return 1;
  }
  const removed = await removeConsumer(db, name);
  if (o.json) await printJson({ consumer: name, removed });
  else await print(removed ? `"${visible(name)}" removed` : `"${visible(name)}" was gone already`);
  return 0;
}

async function partitions(o: InferValue<typeof partitionsOptions>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { setPartitions } = await import("../operate/pause.ts");
  await using db = await openDatabase(o, "consumers");
  const outcome = await setPartitions(db, o.consumer, o.count);
  if (o.json) await printJson({ consumer: o.consumer, partitions: o.count, outcome });
  else {
    await print(
      outcome === "done"
        ? `"${visible(o.consumer)}" has ${countText(o.count, "partition")}`
        : `"${visible(o.consumer)}" will have ${
          countText(o.count, "partition")
        } as soon as its workers have read to a common point; see: hark consumers show ${
          quoted(o.consumer)
        }`,
    );
  }
  return 0;
}
