/**
 * Idle: what a worker process requests from the server while there is nothing to do, with 1, 10 and
 * 100 consumers. Counts statements and bytes a minute on the wire, and connections. Compared with
 * the peers with as many queues or tasks.
 *
 *     deno task bench idle [--consumers 1,10,100] [--seconds 60] [--settle 10] [--no-peers]
 *       [--json]
 *
 * Works in a database of its own, which it drops.
 *
 * @module
 */

import { flags, round, say } from "./flags.ts";
import { plainTable } from "./floor.ts";
import { ownDatabase, pause } from "./own.ts";
import * as graphile from "./peers/graphile.ts";
import * as pgboss from "./peers/pgboss.ts";
import { print } from "./table.ts";
import { CountingProxy } from "./workers/counting.ts";
import { BenchWorker } from "./workers/start.ts";

const given = flags({ consumers: "1,10,100", seconds: "60", settle: "10", "no-peers": false });
const seconds = given.number("seconds");

await using own = await ownDatabase();
await plainTable(own.db);
if (!given.has("no-peers")) {
  await graphile.install(own.url);
  await (await pgboss.start(own.url, { publishes: true })).stop({ graceful: false });
}

const systems = {
  "floor: LISTEN, no polling": "plain-many",
  "Hark": "hark-many",
  ...given.has("no-peers") ? {} : {
    "graphile-worker": "graphile-many",
    "pg-boss, LISTEN": "pgboss-many",
  },
};

/**
 * Leaves a worker alone and counts its traffic. The systems of one size are measured at the same
 * time, because they do next to nothing.
 */
async function measure(name: string, system: string, consumers: number) {
  await using proxy = new CountingProxy(own.url);
  await using worker = await BenchWorker.start({
    system,
    url: proxy.url,
    name: `idle${consumers}`,
    consumers,
  });
  await pause(given.number("settle") * 1000);
  const before = proxy.traffic;
  await pause(seconds * 1000);
  const after = proxy.traffic;
  const { peak } = await worker.ask({});
  await worker.stop();
  const row = {
    consumers,
    system: name,
    connections: after.connections,
    "statements a minute": round((after.statements - before.statements) * 60 / seconds),
    "bytes a minute": round((after.bytes - before.bytes) * 60 / seconds),
    "peak RSS, MiB": Math.round(peak / 2 ** 20),
  };
  say(JSON.stringify(row));
  return row;
}

const rows = [];
for (const consumers of given.numbers("consumers")) {
  rows.push(
    ...await Promise.all(
      Object.entries(systems).map(([name, system]) => measure(name, system, consumers)),
    ),
  );
}
await print({
  title: "A worker process with nothing to do",
  rows,
  notes: [
    `Counted for ${seconds} s, from ${
      given.text("settle")
    } s after the start; all consumers in one process. ` +
    "Statements: Query and Execute messages.",
  ],
}, given);
