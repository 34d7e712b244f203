/**
 * Fail-over: how long after the loss of a worker the other one handles its first notification, for
 * each way to lose a worker. Two worker processes serve one consumer of one partition, at 100
 * notifications a second. The serving worker is lost, the other one takes over, and the lost one
 * returns to stand by.
 *
 *     deno task bench failover [--runs 20] [--only kill,freeze,freeze-default,cut,closed]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { notify } from "@hark/postgres";
import { type Child, type CutProxy, cutProxy, until } from "../tests/harness/mod.ts";
import { startWorker } from "../tests/delivery/_support/fleet.ts";
import { type OwnDatabase, ownDatabase, pause, quantile } from "./own.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    runs: { type: "string", default: "20" },
    only: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const runs = Number(values.runs);

/** A worker behind a proxy of its own. */
interface Worker {
  readonly name: string;
  readonly line: CutProxy;
  child: Child;
}

interface Fault {
  readonly name: string;
  readonly title: string;
  /** The lease, in milliseconds. The default lease if undefined. */
  readonly lease?: number;
  lose(worker: Worker): Promise<void> | void;
  /** Brings the worker back. */
  bring(worker: Worker): void;
}

const killed: Pick<Fault, "lose" | "bring"> = {
  lose: ({ child }) => child.kill("SIGKILL"),
  bring: () => {},
};
const frozen: Pick<Fault, "lose" | "bring"> = {
  lose: ({ child }) => child.kill("SIGSTOP"),
  bring: ({ child }) => child.kill("SIGCONT"),
};
const faults: readonly Fault[] = [
  { name: "kill", title: "kill -9, default lease", ...killed },
  { name: "freeze", title: "SIGSTOP, lease 2 s", lease: 2000, ...frozen },
  { name: "freeze-default", title: "SIGSTOP, default lease (15 s)", ...frozen },
  {
    name: "closed",
    title: "connections closed and refused, default lease",
    lose: ({ line }) => line.refuse(),
    bring: ({ line }) => line.resume(),
  },
  {
    name: "cut",
    title: "network silent, lease 2 s",
    lease: 2000,
    lose: ({ line }) => line.silence(),
    bring: ({ line }) => line.resume(),
  },
  {
    name: "cut-default",
    title: "network silent, default lease (15 s)",
    lose: ({ line }) => line.silence(),
    bring: ({ line }) => line.resume(),
  },
];

/** The times at which a worker handled each notification, in milliseconds since 1970. */
function handledAt({ child }: Worker): number[] {
  return [...child.stdout.matchAll(/^handled .* at (\d+)$/gm)].map((match) => Number(match[1]));
}

/** Measures the fail-over times of one fault. */
async function measure(own: OwnDatabase, fault: Fault): Promise<number[]> {
  const consumer = `failover-${fault.name}`;
  const port = Number(new URL(own.url).port || 5432);
  const host = new URL(own.url).hostname;
  const start = (name: string, line: CutProxy) =>
    startWorker(line.through(own.url), name, {
      options: {
        id: consumer,
        channels: consumer,
        acknowledgeInterval: 50,
        ...(fault.lease === undefined ? {} : { lease: fault.lease }),
      },
      say: true,
    });
  await using resources = new AsyncDisposableStack();
  const workers = ["one", "two"].map((name): Worker => {
    const line = resources.use(cutProxy(port, host));
    return { name, line, child: start(name, line) };
  });
  resources.defer(async () => {
    for (const { child } of workers) await child[Symbol.asyncDispose]();
  });
  let publishing = true;
  const publisher = (async () => {
    for (let n = 0; publishing; n++) {
      await notify(own.db, consumer, n);
      await pause(10);
    }
  })();
  const times: number[] = [];
  try {
    for (let run = 0; run < runs; run++) {
      // Wait until both workers have been there for a while and the same one still serves: a worker
      // that came back may take over again.
      const owner = await until(async () => {
        const before = await both(own, consumer, workers);
        await pause(1000 + Math.random() * 1000); // varies the point within the lease
        return before === await both(own, consumer, workers) ? before : undefined;
      }, { deadline: 60_000, what: "one worker to serve and the other to stand by" });
      const other = workers.find((worker) => worker !== owner)!;
      const lost = Date.now();
      await fault.lose(owner!);
      const first = await until(() => handledAt(other).find((at) => at >= lost), {
        deadline: 60_000,
        what: `${other.name} to take over`,
      });
      times.push(first! - lost);
      fault.bring(owner!);
      if (fault.name === "kill") {
        await owner!.child.ended();
        owner!.child = start(owner!.name, owner!.line);
      }
    }
  } finally {
    publishing = false;
    await publisher;
  }
  return times;
}

/**
 * The worker that serves, once both workers are alive and exactly one has handled notifications
 * lately.
 */
async function both(
  { db }: OwnDatabase,
  consumer: string,
  workers: readonly Worker[],
): Promise<Worker | undefined> {
  const { rows } = await db.query(
    `select count(*)::int as living from hark.crew
      where consumer = $1 and lease_until > clock_timestamp()
        and (session is null or not pg_try_advisory_xact_lock_shared(session))`, // not killed
    [consumer],
  );
  if (rows[0].living !== 2) return undefined;
  const since = Date.now() - 300;
  const serving = workers.filter((worker) => (handledAt(worker).at(-1) ?? 0) > since);
  return serving.length === 1 ? serving[0] : undefined;
}

await using own = await ownDatabase();
const wanted = values.only?.split(",");
const table = [];
for (const fault of faults) {
  if (wanted !== undefined && !wanted.includes(fault.name)) continue;
  const times = await measure(own, fault);
  table.push({
    "how the worker is lost": fault.title,
    "median, s": Number((quantile(times, 0.5) / 1000).toFixed(2)),
    "worst, s": Number((Math.max(...times) / 1000).toFixed(2)),
  });
  if (!values.json) console.error(`${fault.name}: ${times.join(" ")} ms`);
}
if (values.json) console.log(JSON.stringify({ runs, table }));
else {
  console.log(`Time until the other worker handles its first notification, ${runs} runs each`);
  console.table(table);
}
