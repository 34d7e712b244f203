/**
 * `hark workers`: the workers of all consumers.
 *
 * @module
 */

import { databaseCommand } from "./args/command.ts";
import { workerText } from "./served_by.ts";
import { tableOf } from "./print/table.ts";
import { ago, until } from "./print/text.ts";

/** `hark workers`. */
export const workers = databaseCommand({
  name: "workers",
  brief: "Show the workers of all consumers.",
  description:
    "By consumer: the worker's host and process, whether it is alive, when it started, how long its lease " +
    "runs, whether it is woken by LISTEN, and its partitions. Includes workers whose lease ended recently.",
  examples: [
    ["hark workers", "all of them"],
    ["hark workers --json", "for a program"],
  ],
  async run(db) {
    const { consumers } = await import("../operate/consumers.ts");
    const { allWorkers } = await import("../operate/workers.ts");
    const names = (await consumers(db, { maxCount: 1 })).map(({ consumer }) => consumer);
    const found = await allWorkers(db, names);
    const text = tableOf(
      found,
      "consumer, worker, alive, started, lease ends, woken by, partitions",
      (one) => [
        one.consumer,
        workerText(one.name, one.owner),
        one.alive ? "yes" : { text: "no", style: "yellow" },
        ago(one.joinedAt),
        one.leaseUntil.getTime() > Date.now() ? until(one.leaseUntil) : ago(one.leaseUntil),
        one.listening ? "LISTEN" : { text: "polling only", style: "yellow" },
        one.partitions.join(", ") || "-",
      ],
      "no worker runs",
    );
    return { json: found, text };
  },
});
