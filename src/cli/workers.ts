/**
 * `hark workers`: the workers of all consumers.
 *
 * @module
 */

import type { ListedWorker } from "../operate/workers.ts";
import { databaseCommand } from "./command.ts";
import { workerText } from "./served_by.ts";
import { type Cell, table } from "./table.ts";
import { ago, until } from "./text.ts";

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
    return { json: found, text: found.length === 0 ? "no worker runs" : listText(found) };
  },
});

function listText(found: readonly ListedWorker[]): string {
  return table(
    "consumer, worker, alive, started, lease ends, woken by, partitions",
    found.map((one): Cell[] => [
      one.consumer,
      workerText(one.name, one.owner),
      one.alive ? "yes" : { text: "no", style: "yellow" },
      ago(one.joinedAt),
      until(one.leaseUntil),
      one.listening ? "LISTEN" : { text: "polling only", style: "yellow" },
      one.partitions.length === 0 ? "-" : one.partitions.join(", "),
    ]),
  );
}
