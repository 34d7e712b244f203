/**
 * pg-boss in its fastest documented settings: batches, fetched without a pause while they come full
 * (`burstWhenBatchFull`), two local workers; LISTEN where latency counts (`useListenNotify`, `notify`):
 * https://pgboss.io/api/workers and https://pgboss.io/api/constructor. What it does besides on a timer
 * (schedules, maintenance) is off.
 *
 * @module
 */

import { PgBoss } from "npm:pg-boss@12.35.0";

/** How a program of pg-boss is set up. */
export interface BossOptions {
  /** How many connections it may open. @default {4} */
  readonly connections?: number;
  /** Whether it is woken by LISTEN. @default {false} */
  readonly listen?: boolean;
  /** Whether it only publishes. @default {false} */
  readonly publishes?: boolean;
}

/** Connects. */
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

/** Makes a queue where there is none. `notify`: publishing wakes who listens. */
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

/** Handles the jobs of one queue by fetch and complete, until there is none. */
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
 * The statement that sends one job, for a driver that is not pg-boss's own: with its parameters written
 * out, but for the data where `data` names a parameter for them, such as `$1` (of type jsonb).
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
