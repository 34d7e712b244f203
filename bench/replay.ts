/**
 * Replay after an absence: one consumer handles a backlog, beside a plain SELECT of the same rows by
 * the same driver in the same run. Prints rows a second and the growth of the process's memory.
 *
 *     deno task bench [--rows 100000] [--bytes 200] [--repeats 3] [--json]
 *
 * Needs DATABASE_URL; works in a database of its own, which it drops.
 *
 * @module
 */

import { parseArgs } from "node:util";
// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { connect, Consumer, type Database, migrate, notifyMany } from "@hark/postgres";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    rows: { type: "string", default: "100000" },
    bytes: { type: "string", default: "200" },
    repeats: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
  },
});
const total = Number(values.rows);
const repeats = Number(values.repeats);

/** What one pass gave. */
interface Pass {
  readonly rowsPerSecond: number;
  readonly peakGrowthMiB: number;
}

/** Runs a reader and watches the memory of this process meanwhile. */
async function measured(read: () => Promise<number>): Promise<Pass> {
  const before = Deno.memoryUsage().rss;
  let peak = before;
  const watch = setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 20);
  const start = performance.now();
  const count = await read();
  const seconds = (performance.now() - start) / 1000;
  clearInterval(watch);
  if (count !== total) throw new Error(`${count} of ${total} rows arrived`);
  return { rowsPerSecond: count / seconds, peakGrowthMiB: (peak - before) / 2 ** 20 };
}

async function plainSelect(url: string): Promise<number> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", (error) => console.error(error.message));
  await client.connect();
  try {
    let count = 0;
    let last: unknown = 0;
    for (;;) {
      const { rows } = await client.query(
        `select id, channel, key, payload::text as payload, headers::text as headers,
          date_part('epoch', created_at) * 1000 as created_at
         from hark.log where id > $1 order by id limit 500`,
        [last],
      );
      if (rows.length === 0) return count;
      count += rows.length;
      last = rows.at(-1).id;
    }
  } finally {
    await client.end();
  }
}

async function consumer(db: Database, pass: number): Promise<number> {
  let expected = 1;
  const reader = new Consumer(db, {
    id: `replay-${pass}`,
    channels: "bench",
    handle(notification) {
      if (notification.payload.n !== expected) throw new Error(`${expected} is missing`);
      expected++;
    },
  });
  return await reader.drain();
}

function median(numbers: number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

const admin = Deno.env.get("DATABASE_URL");
if (admin === undefined) {
  console.error("bench: set DATABASE_URL to a server where databases may be created");
  Deno.exit(2);
}
const name = `hark_bench_${crypto.randomUUID().slice(0, 8)}`;
await using server = await connect(admin);
await server.query(`create database ${name}`);
try {
  const url = new URL(admin);
  url.pathname = `/${name}`;
  await using db = await connect(url.href);
  await migrate(db);
  const filler = "x".repeat(Math.max(0, Number(values.bytes) - 20));
  for (let n = 0; n < total;) {
    const batch = Array.from({ length: Math.min(5000, total - n) }, () => ({
      channel: "bench",
      payload: { n: ++n, filler },
    }));
    await notifyMany(db, batch);
  }
  const plain: Pass[] = [];
  const hark: Pass[] = [];
  for (let pass = 0; pass < repeats; pass++) {
    plain.push(await measured(() => plainSelect(url.href)));
    hark.push(await measured(() => consumer(db, pass)));
  }
  const table = [["plain SELECT, pages of 500", plain], ["Hark consumer, default options", hark]]
    .map(([reader, passes]) => ({
      reader: reader as string,
      rowsPerSecond: Math.round(median((passes as Pass[]).map((p) => p.rowsPerSecond))),
      ratio: Number(
        (median((passes as Pass[]).map((p) => p.rowsPerSecond)) /
          median(plain.map((p) => p.rowsPerSecond))).toFixed(2),
      ),
      peakGrowthMiB: Number(
        Math.max(...(passes as Pass[]).map((p) => p.peakGrowthMiB)).toFixed(0),
      ),
    }));
  if (values.json) console.log(JSON.stringify({ rows: total, repeats, table }));
  else {
    console.log(
      `${total} rows of ${values.bytes} bytes, medians of ${repeats}; memory: worst pass`,
    );
    console.table(table);
  }
} finally {
  await server.query(`drop database if exists ${name} with (force)`);
}
