/**
 * The loss table: 16 writers whose transactions commit in another order than they drew their ids, and
 * four ways of reading them. A reader of `id > last` misses about two of three here.
 */

import assert from "node:assert/strict";
import { type Client, test, type TestContext, until } from "../harness/mod.ts";
import { RegisteredReader, UnregisteredReader } from "./_support/reader.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

const WRITERS = 16;
const NOTIFICATIONS = 20_000;

/** One transaction as one message; the sleep lies between publishing and the end. */
function transaction(doomed: boolean): { text: string; kept: number } {
  const some = (max: number) => 1 + Math.floor(Math.random() * max);
  const publish = (count: number, doomed: boolean) =>
    `select hark.notify(case when n % 5 = 0 then 'rare' else 'often' end,
       jsonb_build_object('doomed', ${doomed}), (n % 50)::text) from generate_series(1, ${count}) n;`;
  const parts = ["begin;"];
  let kept = 0;
  const keep = (count: number) => {
    kept += doomed ? 0 : count;
    parts.push(publish(count, doomed));
  };
  if (Math.random() < 0.2) parts.push("select pg_current_xact_id(), pg_sleep(0.002);");
  keep(some(6));
  if (Math.random() < 0.3) {
    parts.push("savepoint a;", publish(some(3), true), "rollback to savepoint a;");
  }
  if (Math.random() < 0.3) {
    parts.push("savepoint b;");
    keep(some(6));
    parts.push("release savepoint b;");
  }
  parts.push(`select pg_sleep(${(Math.random() * 0.02).toFixed(4)});`);
  if (Math.random() < 0.3) keep(some(3));
  parts.push(doomed ? "rollback;" : "commit;");
  return { text: parts.join(" "), kept };
}

async function write({ client }: TestContext): Promise<number> {
  const clients = await Promise.all(Array.from({ length: WRITERS }, () => client()));
  let total = 0;
  await Promise.all(clients.map(async (writer) => {
    while (total < NOTIFICATIONS) {
      const { text, kept } = transaction(Math.random() < 0.1);
      total += kept;
      await writer.query(text);
    }
  }));
  return total;
}

interface Readers {
  readonly all: (RegisteredReader | UnregisteredReader)[];
  readonly rare: UnregisteredReader;
  stop(): Promise<void>;
}

/** Starts the readers beside the writers. Each has a connection of its own. */
async function readAlong({ client }: TestContext): Promise<Readers> {
  const both = ["often", "rare"];
  const start = { kind: "now" } as const;
  const live = await RegisteredReader.open(await client(), "live", both, start);
  const paging = await RegisteredReader.open(await client(), "paging", both, start, { rows: 7 });
  const restarted = await RegisteredReader.open(await client(), "restarted", both, start, {
    rows: 40,
  });
  const unregistered = await UnregisteredReader.open(await client(), null, start);
  const rare = await UnregisteredReader.open(await client(), ["rare"], start, { scanned: 50 });
  let stopping = false;
  const run = async (reader: RegisteredReader | UnregisteredReader) => {
    let since = 0;
    while (!stopping) {
      const { rows } = await reader.step();
      since += rows.length;
      if (reader === restarted && since >= 100) {
        await restarted.restart();
        since = 0;
      }
      // Idle: let the writers have the processor.
      if (rows.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  const all = [live, paging, restarted, unregistered];
  const running = Promise.all([...all, rare].map(run));
  running.catch(() => {});
  return {
    all,
    rare,
    stop: async () => {
      stopping = true;
      await running;
    },
  };
}

/** Waits until the live readers have got to the end, then ends them. */
async function finish(readers: Readers, total: number): Promise<void> {
  await until(() => readers.all.every(({ delivered }) => delivered.length >= total), {
    deadline: 20_000,
    what: `${total} notifications to reach each of the readers`,
  }).catch(() => {}); // what is missing, the comparison with the log says
  await readers.stop();
  for (const reader of [...readers.all, readers.rare]) await reader.drain();
}

async function assertAllDelivered({ admin }: TestContext, readers: Readers): Promise<void> {
  for (const { delivered } of readers.all) {
    await assertExactlyOnce(admin, delivered);
    assert.equal(delivered.filter(({ payload }) => payload.doomed).length, 0);
  }
  await assertExactlyOnce(admin, readers.rare.delivered, ["rare"]);
}

test(
  "16 writers that commit out of order lose nothing, repeat nothing, and publish nothing they rolled back",
  {
    timeout: 90_000,
  },
  async (context) => {
    const readers = await readAlong(context);
    const total = await write(context);
    await finish(readers, total);
    await assertAllDelivered(context, readers);
  },
);

test("two unrelated transactions left open hold no others' notifications back", {
  timeout: 90_000,
}, async (context) => {
  await context.sql("create table unrelated (n integer)");
  const open: Client[] = [await context.client(), await context.client()];
  for (const client of open) await client.query("begin; insert into unrelated values (1);");
  const readers = await readAlong(context);
  const total = await write(context);
  await finish(readers, total);
  await assertAllDelivered(context, readers); // while both are open still
  for (const client of open) await client.query("select hark.notify('often'); commit;");
  for (const reader of [...readers.all, readers.rare]) await reader.drain();
  await assertAllDelivered(context, readers);
});
