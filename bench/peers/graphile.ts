/**
 * graphile-worker with the settings of its best figures on its own performance page: a local queue
 * of 500, batched completion without a delay, 24 jobs at a time
 * (https://worker.graphile.org/docs/performance).
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

/** Installs its schema. */
export async function install(url: string): Promise<void> {
  await runMigrations({ connectionString: url, logger });
}

/** Creates a client that adds jobs, with the given number of connections. */
export async function publisher(url: string, connections = 1): Promise<WorkerUtils> {
  return await makeWorkerUtils({ connectionString: url, maxPoolSize: connections, logger });
}

/**
 * Handles the jobs of one or several tasks. `batched` selects the settings for throughput.
 * Otherwise the settings for latency apply, with one query for each job.
 */
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
