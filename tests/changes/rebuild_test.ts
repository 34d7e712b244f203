/** Many write at random, and a consumer that has nothing but the notifications has the same tables. */

import assert from "node:assert/strict";
import { connect, Consumer } from "../../mod.ts";
import { random } from "../delivery/_support/publishers.ts";
import { test } from "../harness/mod.ts";
import { type Fields, type Payload, Rebuilt, text } from "./_support/rebuild.ts";
import { type Kind, kinds } from "./_support/rebuild_tables.ts";
import { watchAgain, write, type Written } from "./_support/rebuild_writers.ts";

const seconds = Number(Deno.env.get("HARK_REBUILD_SECONDS") ?? 6);

function rowsOf(rows: Fields[], { hidden = [] }: Kind): string[] {
  return rows.map((row) =>
    text(Object.fromEntries(Object.entries(row).filter(([name]) => !hidden.includes(name))))
  ).sort();
}

test(
  "eight write at random for a while, and what is published rebuilds each kind of table, row for row",
  { timeout: (seconds * 10 + 60) * 1000 },
  async ({ url, sql, use }) => {
    const seed = Number(Deno.env.get("HARK_REBUILD_SEED") ?? Math.floor(Math.random() * 1e6));
    for (const { name, columns, more = "", watch } of kinds) {
      await sql(`create table ${name} ${columns}; ${more}`);
      await sql(`select hark.watch('${name}'::regclass, ${watch})`);
    }
    const db = use(await connect(url));
    const copies = new Map(kinds.map(({ name }) => [name, new Rebuilt()]));
    const consumer = new Consumer<Payload>(db, {
      id: "copies",
      channels: kinds.map(({ name }) => name),
      from: "beginning",
      partitions: 1,
      concurrency: 1,
      maxAttempts: 1,
      handle: (n) => copies.get(n.channel)!.apply(n),
      onDeadLetter: (error) => void failures.push(error),
    });
    const failures: unknown[] = [];
    const running = consumer.run();
    running.catch(() => {}); // stopping it sees it
    let written: Written[];
    let again: number;
    try {
      const watching = watchAgain(url, kinds[0]!, seconds * 1000);
      watching.catch(() => {}); // awaited below
      written = await Promise.all(Array.from({ length: 8 }, (_, n) => {
        const next = random(seed * 8 + n);
        return write(url, kinds, (below) => Math.floor(next() * below), seconds * 1000);
      }));
      again = await watching;
    } finally {
      await consumer.stop();
      await running;
    }
    await consumer.drain();
    const total: Record<string, number> = {};
    for (const { committed, rolledBack, refused } of written) {
      for (const [name, n] of Object.entries({ committed, rolledBack, ...refused })) {
        total[name] = (total[name] ?? 0) + n;
      }
    }
    await sql("set timezone = 'UTC'");
    const [{ count }] = await sql("select count(*)::int from hark.log");
    console.log(`seed ${seed}: ${count} notifications; ${JSON.stringify({ ...total, again })}`);
    for (const kind of kinds) {
      const copy = copies.get(kind.name)!;
      const rows = await sql(`select to_jsonb(t) as row from ${kind.name} t`)
        .then((result) => result.map(({ row }) => row));
      assert.deepEqual(failures.slice(0, 3), [], `seed ${seed}`);
      assert.deepEqual(copy.rows, rowsOf(rows, kind), `${kind.name}, seed ${seed}`);
    }
  },
);
