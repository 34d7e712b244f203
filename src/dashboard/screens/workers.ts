/**
 * All workers.
 *
 * @module
 */

import { allWorkers, type ListedWorker } from "../../operate/workers.ts";
import { htm } from "../html.ts";
import { toConsumer } from "../links.ts";
import { badge, empty, name, type Row, table, when } from "../parts.ts";
import type { Screen, View } from "../view.ts";

/** The list of workers. */
export const workers: Screen = {
  title: () => "Workers",
  under: "/workers",
  async regions(view) {
    const names = view.look.status.consumers.map(({ consumer }) => consumer);
    const all = await view.reading((tx) => allWorkers(tx, names));
    return [{
      id: "workers",
      body: all.length === 0
        ? empty(htm`No worker runs. Start one: <code>hark listen consumers/</code>`)
        : table(
          "Workers",
          ["Consumer", ...workerHeads],
          all.map((one) => workerRow(view, one, true)),
        ),
    }];
  },
};

/** The heads of a table of workers. */
export const workerHeads: readonly string[] = [
  "Worker",
  "State",
  "Lease ends",
  "Started",
  "Woken by",
  "Partitions",
];

/** A row of a table of workers. */
export function workerRow(view: View, one: ListedWorker, withConsumer: boolean): Row {
  const { consumer, owner, partitions } = one;
  return {
    key: `${consumer}/${owner}`,
    cells: [
      ...withConsumer ? [toConsumer(view, consumer)] : [],
      name(one.name ?? owner.slice(0, 8)),
      one.alive
        ? partitions.length === 0 ? badge("calm", "stands by") : badge("good", "serves")
        : badge("bad", "ended"),
      when(one.leaseUntil),
      when(one.joinedAt),
      one.listening ? "NOTIFY" : badge("warn", "polling only"),
      partitions.length === 0 ? htm`<span class="dim">none</span>` : ranges(partitions),
    ],
  };
}

/** `0-3, 7`. */
function ranges(numbers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const number of numbers) {
    const last = parts.at(-1);
    if (last !== undefined && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => from === to ? String(from) : `${from}-${to}`).join(", ");
}
