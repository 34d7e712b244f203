/**
 * Live: the CPU time that a notification costs its reader, while some are published each second. That is
 * the time of the reader's process, and of the server for its sessions. Beside it a plain SELECT that
 * polls every 3 ms, and so loses rows that commit late. CPU time hardly depends on what else the machine
 * does.
 *
 *     deno task bench live [--rates 100,2000,5000] [--seconds 10] [--bytes 200] [--flush own,1ms]
 *       [--only "plain,hark"] [--repeats 3] [--json]
 *
 * Needs pgbench, and a superuser of a server on this machine, which must be Linux. Works in a
 * database of its own, which it drops.
 *
 * @module
 */

import { cpuOf, sessionsOf, since } from "./cpu.ts";
import { alternate, flags, median, round, say } from "./flags.ts";
import { payloadOf, plainTable } from "./floor.ts";
import { ownDatabase } from "./own.ts";
import { findDriver, flushes } from "./pgbench.ts";
import { print } from "./table.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({
  rates: "100,2000,5000",
  seconds: "10",
  bytes: "200",
  flush: "own",
  only: "",
});
const seconds = given.number("seconds");

await using own = await ownDatabase();
const { db, url } = own;
await plainTable(db);
const payload = JSON.stringify(payloadOf(given.number("bytes")));

interface Variant {
  readonly worker: string;
  readonly statement: (name: string) => string;
}

const plain = "a plain SELECT polls";
const variants: Readonly<Record<string, Variant>> = {
  [plain]: {
    worker: "poll",
    statement: () => `insert into plain.log (channel, payload) values ('bench', '${payload}')`,
  },
  "a consumer of Hark": {
    worker: "hark",
    statement: (name) => `select hark.notify('${name}', '${payload}')`,
  },
};

const { name: driver, drive } = await findDriver();
if (driver !== "pgbench") throw new Error("bench live needs pgbench, which publishes at a rate");

interface Cost {
  /** CPU time of a row, in µs: of the process, and of the server. */
  readonly process: number;
  readonly server: number;
}

async function processTime({ pid }: BenchWorker): Promise<number> {
  return (await cpuOf(db, [pid])).get(pid)!.own;
}

let measured = 0;

async function measure({ worker: system, statement }: Variant, rate: number, options: string) {
  const name = `m${++measured}`;
  const load = { url, clients: 16, seconds, options, rate };
  await using worker = await BenchWorker.start({ system, url, name });
  await drive(statement(name), { ...load, seconds: 3 });
  await worker.ask({ reset: true });
  const before = await sessionsOf(db);
  const begun = await processTime(worker);
  const { done } = await drive(statement(name), load);
  const { handled } = await worker.ask({ count: system === "hark" ? done : 0 });
  const ended = await processTime(worker);
  const server = since(before, await sessionsOf(db));
  await worker.stop();
  const cost: Cost = {
    process: round((ended - begun) * 1000 / handled, 1),
    server: round(server * 1000 / handled, 1),
  };
  return cost;
}

const rows = [];
for (const flush of given.text("flush").split(",")) {
  const options = flushes[flush];
  if (options === undefined) throw new Error(`--flush is "${flush}". Give own or 1ms.`);
  for (const rate of given.numbers("rates")) {
    say(`${rate} a second, flush ${flush}`);
    const results = await alternate(
      given.repeats,
      given.chosen(variants).map(([name, variant]) =>
        [name, () => measure(variant, rate, options)] as const
      ),
    );
    const all = (costs: readonly Cost[]) =>
      median(costs.map(({ process, server }) => process + server));
    const floor = results.get(plain);
    for (const [name, costs] of results) {
      rows.push({
        "a second": rate,
        flush,
        reader: name,
        "process, µs": round(median(costs.map(({ process }) => process)), 1),
        "server, µs": round(median(costs.map(({ server }) => server)), 1),
        ratio: floor === undefined ? null : round(all(costs) / all(floor), 2),
      });
    }
  }
}
await print({
  title: "A live reader: CPU time of each notification",
  rows,
  notes: [
    `Published by pgbench, 16 clients, ${seconds} s each, payloads of ${
      given.text("bytes")
    } bytes; ` +
    `medians of ${given.repeats} in turns. The plain SELECT looks every 3 ms and loses what commits late.`,
  ],
}, given);
