/**
 * Which workers serve a consumer, the same in every command.
 *
 * @module
 */

import {
  type ConsumerStatus,
  type SleepingWorkers,
  sleepsWell,
} from "../operate/consumer_status.ts";
import type { Cell } from "./print/table.ts";
import { ago, countText, numberText, until } from "./print/text.ts";

/** The workers of a consumer: those that serve it, sleep or stand by. */
export function served(one: ConsumerStatus): Cell {
  const { served, serving, leaseUntil, owner, workers, standingBy, partitions, pausedAt } = one;
  const serve = workers - standingBy;
  const text = [
    pausedAt === null ? "" : "paused",
    serving
      ? serve === 1 ? workerText(one.worker, owner) : countText(serve, "worker")
      : one.asleep === null
      ? "no worker"
      : "",
    one.asleep === null ? "" : asleepText(one.asleep),
    serving || one.asleep !== null || owner === null || leaseUntil === null
      ? ""
      : leaseText(leaseUntil),
    standingBy === 0 ? "" : `${numberText(standingBy)} standing by`,
    serving && served < partitions ? `${served} of ${partitions} partitions` : "",
    one.nextPartitions === null ? "" : `changing to ${countText(one.nextPartitions, "partition")}`,
  ].filter((part) => part !== "").join(", ");
  const isLeft = !serving && (one.unread > 0 || one.unreadCapped) && !sleepsWell(one);
  return { text, style: pausedAt !== null || isLeft ? "yellow" : undefined };
}

/** Workers that sleep, and when the first wakes by itself. */
function asleepText({ workers, worker, wakesAt }: SleepingWorkers): string {
  const sleepers = workers === 1 ? worker ?? "1 worker" : countText(workers, "worker");
  return `${sleepers} asleep, wakes ${until(wakesAt)} at the latest`;
}

/** A worker by its host and process; by the beginning of its number if these are not known. */
export function workerText(name: string | null, owner: string | null): string {
  return name ?? owner?.slice(0, 8) ?? "-";
}

/** When a lease without a worker ends or ended: that of a killed worker still runs for a while. */
export function leaseText(end: Date): string {
  return end.getTime() > Date.now() ? `lease ends ${until(end)}` : `lease ended ${ago(end)}`;
}
