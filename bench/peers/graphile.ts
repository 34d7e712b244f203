/**
 * graphile-worker as its own page on performance sets it up for its best figures: a local queue of 500,
 * batched completion without a delay, 24 jobs at a time (https://worker.graphile.org/docs/performance).
 *
 * @module
 */

import {
  Logger,
  makeWorkerUtils,
  run,
  runMigrations,
  type Runner,
} from "npm:graphile-worker@0.18.0";
import type { WorkerUtils } from "npm:graphile-worker@0.18.0";

const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

/** Sets its schema up. */
export async function install(url: string): Promise<void> {
  await runMigrations({ connectionString: url, logger });
}

/** What adds jobs, with so many connections. */
export async function publisher(url: string, connections = 1): Promise<WorkerUtils> {
  return await makeWorkerUtils({ connectionString: url, maxPoolSize: connections, logger });
}

/** Handles the jobs of a task, or of some. `batched`: as for throughput; else as for latency, a query a job. */
export async function serve(
  url: string,
  tasks: string | readonly string[],
  handle: (payload: unknown) => void,
  batched = true,
): Promise<Runner> {
  return await run({
    connectionString: url,
    logger,
    noHandleSignals: true,
    taskList: Object.fromEntries([tasks].flat().map((task) => [task, handle])),
    preset: {
      worker: {
        concurrentJobs: 24,
        maxPoolSize: 25,
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        ...(batched ? { localQueue: { size: 500 } } : {}),
      },
    },
  });
}
