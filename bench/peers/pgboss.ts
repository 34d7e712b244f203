/**
 * pg-boss with its fastest documented settings: two local workers that fetch batches without a
 * pause while batches are full (`burstWhenBatchFull`), and LISTEN for latency (`useListenNotify`,
 * `notify`). See https://pgboss.io/api/workers and https://pgboss.io/api/constructor. Its other
 * work on timers (schedules, maintenance) is off.
 *
 * @module
 */

import { PgBoss } from "npm:pg-boss@12.35.0";

/** Options of a pg-boss instance. */
export interface BossOptions {
  /** The maximum number of connections. @default {4} */
  readonly connections?: number;
  /** Whether LISTEN wakes it. @default {false} */
  readonly listen?: boolean;
  /** Whether it only publishes. @default {false} */
  readonly publishes?: boolean;
}

/** Connects and starts it. */
export async function start(url: string, options: BossOptions = {}): Promise<PgBoss> {
  const { connections = 4, listen = false, publishes = false } = options;
  const boss = new PgBoss({
    connectionString: url,
    max: connections,
    connectionTimeoutMillis: 600_000,
    schedule: false,
    supervise: false,
    migrate: true,
    useListenNotify: listen && !publishes,
  });
  boss.on("error", (error: Error) => console.error(error.message));
  return await boss.start();
}

/** Creates a queue if it does not exist. `notify`: publishing wakes workers that LISTEN. */
export async function queue(boss: PgBoss, name: string, notify = false): Promise<void> {
  if (await boss.getQueue(name) === null) await boss.createQueue(name, { notify });
}

/** Handles the jobs of one queue, in batches. */
export async function serve(
  boss: PgBoss,
  name: string,
  handle: (payload: unknown) => void,
  localConcurrency = 2,
): Promise<void> {
  await boss.work(
    name,
    { batchSize: 1000, burstWhenBatchFull: true, localConcurrency, pollingIntervalSeconds: 0.5 },
    (jobs) => {
      for (const { data } of jobs) handle(data);
      return Promise.resolve();
    },
  );
}

/** Handles the jobs of one queue with fetch and complete, until the queue is empty. */
export async function drain(
  boss: PgBoss,
  name: string,
  handle: (payload: unknown) => void,
): Promise<void> {
  for (;;) {
    const jobs = await boss.fetch(name, { batchSize: 1000 });
    if (jobs.length === 0) return;
    for (const { data } of jobs) handle(data);
    await boss.complete(name, jobs.map(({ id }) => id));
  }
}

/**
 * The statement that sends one job, for use by another driver than pg-boss's own. Its parameters
 * are written out. If `data` names a parameter, such as `$1` (of type jsonb), that parameter stands
 * for the payload.
 */
export async function sendStatement(
  boss: PgBoss,
  name: string,
  payload: object,
  data?: string,
): Promise<string> {
  let statement = "";
  const written = (value: unknown) => {
    if (value === null) return "null";
    const text = String(value).replaceAll("'", "''");
    return data === undefined
      ? `'${text}'`
      : `json_build_array('${text}'::jsonb -> 0 || jsonb_build_object('data', ${data}::jsonb))`;
  };
  await boss.send(name, payload, {
    db: {
      executeSql: (text: string, values: unknown[] = []) => {
        statement = text.replaceAll(/\$(\d+)/g, (_, number) => written(values[Number(number) - 1]));
        return Promise.resolve({ rows: [{ id: crypto.randomUUID() }] });
      },
    },
  });
  return statement;
}
