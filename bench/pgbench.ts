/**
 * Drives load. Uses PostgreSQL's own pgbench if the machine has it, so that the client's work is
 * not what is measured. Otherwise uses npm:pg with many clients in one process.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";

/** Settings of a session that publishes, for each kind of flush: the server's own, or one of a millisecond. */
export const flushes: Readonly<Record<string, string>> = {
  own: "",
  "1ms": "-c commit_delay=1000 -c commit_siblings=0",
};

/** The load to drive. */
export interface Load {
  readonly url: string;
  readonly clients: number;
  /** The minimum duration, in seconds. */
  readonly seconds: number;
  /** Settings of each session, for example `-c commit_delay=1000`. */
  readonly options?: string;
  /** How many transactions a second, for pgbench alone. Without it: as many as there can be. */
  readonly rate?: number;
}

/** The result of driving a load. */
export interface Driven {
  /** The number of committed transactions. */
  readonly done: number;
  readonly perSecond: number;
}

/** Runs one statement repeatedly for some seconds, one transaction each. */
export type Driver = (statement: string, load: Load) => Promise<Driven>;

/** The best available driver, and its name. */
export async function findDriver(): Promise<{ readonly name: string; readonly drive: Driver }> {
  const there = await new Deno.Command("pgbench", { args: ["--version"] }).output()
    .then(({ success }) => success, () => false);
  return there ? { name: "pgbench", drive: pgbench } : { name: "npm:pg", drive: byDriver };
}

async function pgbench(statement: string, load: Load): Promise<Driven> {
  const child = new Deno.Command("pgbench", {
    args: [
      "--no-vacuum",
      "--protocol=prepared",
      `--client=${load.clients}`,
      `--jobs=${Math.min(2, load.clients)}`,
      // pgbench counts the time from before its clients connect, but its rate from when they have
      // connected.
      ...(load.rate === undefined ? [] : [`--rate=${load.rate}`]),
      `--time=${load.seconds + Math.floor(load.clients / 16)}`,
      "--file=-",
      load.url,
    ],
    env: { PGOPTIONS: load.options ?? "" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  // pgbench takes `:word` for one of its variables, even inside a JSON string.
  const script = statement.replaceAll(/(?<!:):(?=\w)/g, ": ");
  await input.write(new TextEncoder().encode(`${script};\n`));
  await input.close();
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder().decode(stdout);
  const done = Number(text.match(/transactions actually processed: (\d+)/)?.[1]);
  const perSecond = Number(text.match(/tps = ([\d.]+)/)?.[1]);
  const failed = Number(text.match(/failed transactions: (\d+)/)?.[1] ?? 0);
  if (code !== 0 || failed > 0 || !(done > 0)) {
    throw new Error(`pgbench: ${text}\n${new TextDecoder().decode(stderr)}`);
  }
  return { done, perSecond };
}

async function byDriver(statement: string, load: Load): Promise<Driven> {
  const clients = Array.from({ length: load.clients }, () => {
    const client = new pg.Client({
      connectionString: load.url,
      ...(load.options === undefined ? {} : { options: load.options }),
    });
    client.on("error", (error) => console.error(error.message));
    return client;
  });
  await Promise.all(clients.map((client) => client.connect()));
  try {
    const begun = performance.now();
    const end = begun + load.seconds * 1000;
    const counts = await Promise.all(clients.map(async (client) => {
      let count = 0;
      for (; performance.now() < end; count++) {
        await client.query({ name: "load", text: statement });
      }
      return count;
    }));
    const done = counts.reduce((sum, count) => sum + count, 0);
    return { done, perSecond: done / ((performance.now() - begun) / 1000) };
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}
