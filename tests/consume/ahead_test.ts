/** The next page of a window is asked for while the one before it is unpacked. */

import assert from "node:assert/strict";
import process from "node:process";
import { completeOptions } from "../../src/consume/check_options.ts";
import { OwnedPartition } from "../../src/consume/state/partition.ts";
import { Membership } from "../../src/consume/lease/membership.ts";
import { cut } from "../../src/consume/read/cut.ts";
import { WindowReader } from "../../src/consume/read/window_reader.ts";
import type { Queryable } from "../../src/database/queryable.ts";
import { Session } from "../../src/database/session.ts";
import { connect, Consumer } from "../../mod.ts";
import { patient, test, type TestContext, until } from "../harness/mod.ts";
import { replaceIn } from "../windows/_support/staging.ts";

const open = (url: string, queryTimeout = 10_000) =>
  Session.open({ url, connectTimeout: 10_000, queryTimeout, applicationName: "test" });

/** A reader of 1,000 notifications for both partitions of a consumer, and how many pages its sessions are asked for. */
async function reading({ url, sql }: TestContext) {
  await sql("select hark.register('c', array['a'], partitions => 2)");
  await sql("select hark.notify('a', to_jsonb(n)) from generate_series(1, 1000) n");
  const { identity, limits } = completeOptions({ pageSize: 100 }, "c", "a", {
    handle() {},
    handleBatch: undefined,
  });
  const session = await open(url);
  const member = new Membership(identity, session, undefined);
  await member.heartbeat(session);
  const claimed = await member.claim(session, [0, 1], false);
  const mark = await cut(session);
  const held = claimed.map((one) => new OwnedPartition(one, 4000, new AbortController().signal));
  const readerOf = (partitions: OwnedPartition[]) => {
    const reader = new WindowReader(claimed[0]!.position);
    for (const one of partitions) reader.partitions.add(one);
    return reader;
  };
  let asked = 0;
  const counting = (session: Session): Queryable => ({
    query(text, values) {
      asked++;
      return session.query(text, values);
    },
  });
  const pages = async (reader: WindowReader, on: Queryable, most = Infinity) => {
    const rows: { id: number; partition: number }[] = [];
    for (let n = 0; n < most; n++) {
      if (!reader.inWindow) reader.open(mark, 0);
      const page = await reader.read(on, {
        identity,
        limits,
        started: mark,
        ahead: () => limits,
      });
      rows.push(...page.rows);
      if (page.windowEnd) break;
    }
    return rows;
  };
  const mine = (rows: { id: number; partition: number }[], partition: number) =>
    rows.filter((row) => row.partition === partition).map((row) => row.id);
  return { held, readerOf, session, counting, pages, mine, asked: () => asked };
}

test("each page comes once, and is asked for once, before the one before it is handed over", async (context) => {
  const { held, readerOf, session, counting, pages, asked } = await reading(context);
  try {
    const on = counting(session);
    const reader = readerOf(held);
    const first = await pages(reader, on, 1);
    assert.equal(asked(), 2);
    assert.equal(reader.ahead?.rows, 100);
    const rows = [...first, ...await pages(reader, on)];
    assert.deepEqual(rows.map(({ id }) => id), Array.from({ length: 1000 }, (_, n) => n + 1));
    assert.equal(asked(), 10, "none beyond the window");
    assert.equal(reader.ahead, undefined);
  } finally {
    await session.close();
  }
});

test("what was asked for with a partition that is gone since is asked for anew, without it", async (context) => {
  const { held, readerOf, session, counting, pages, mine, asked } = await reading(context);
  try {
    const on = counting(session);
    const reader = readerOf(held);
    const first = await pages(reader, on, 1);
    reader.partitions.delete(held[1]!);
    const rest = await pages(reader, on);
    assert.deepEqual([...new Set(rest.map(({ partition }) => partition))], [0]);
    const all = await pages(readerOf(held), on);
    assert.deepEqual([...mine(first, 0), ...mine(rest, 0)], mine(all, 0));
    assert.equal(asked(), 2 + 5 + 10, "the second page of two partitions, five of one, ten of two");
  } finally {
    await session.close();
  }
});

test("so is what was asked for before a partition came, was claimed anew, or on a connection that is gone", async (context) => {
  const { held, readerOf, session, counting, pages, asked } = await reading(context);
  const other = await open(context.url);
  try {
    const on = counting(session);
    const reader = readerOf([held[0]!]);
    const first = await pages(reader, on, 1);
    assert.equal(asked(), 2);
    reader.partitions.add(held[1]!);
    const second = await pages(reader, on, 1);
    assert.deepEqual(new Set(second.map(({ partition }) => partition)), new Set([0, 1]));
    assert(second[0]!.id > first.at(-1)!.id);
    assert.equal(asked(), 4);

    await session.close();
    const third = await pages(reader, counting(other), 1);
    assert(third[0]!.id > second.at(-1)!.id);
    assert.equal(asked(), 6);

    // Under an epoch that is over, it is not taken, whatever it has brought.
    held[0]!.epoch++;
    await assert.rejects(pages(reader, counting(other), 1), { code: "FENCED" });
  } finally {
    await session.close();
    await other.close();
  }
});

test(
  "pages that take longer to come than a lease hold no handler up",
  { timeout: 60_000 },
  async ({ url, sql, use }) => {
    await sql("select hark.notify('a', to_jsonb(n)) from generate_series(1, 10000) n");
    await replaceIn(url, {
      rule: "",
      in: "hark.page",
      from: "select i.rebased_through, n.id",
      to: "perform pg_sleep(1.2); select i.rebased_through, n.id",
    });
    const handled: number[] = [];
    const consumer = new Consumer(use(await connect(url)), {
      id: "c",
      channels: "a",
      lease: 1000,
      pageSize: 100,
      handle: ({ payload }) => void handled.push(payload),
    });
    const running = consumer.run();
    await until(() => handled.length >= 400, { deadline: 40_000 });
    await consumer.stop();
    await running;
    assert.deepEqual(handled, Array.from({ length: handled.length }, (_, n) => n + 1));
  },
);

test("queries of a connection take turns, and time runs for each from its own", async ({ url, sql }) => {
  const warnings: Error[] = [];
  const warned = (warning: Error) => warnings.push(warning);
  process.on("warning", warned);
  const session = await open(url, patient(2000));
  try {
    const order: number[] = [];
    await Promise.all([1, 2, 3].map(async (n) => {
      // Each takes less than it may, and all together take more.
      await session.query("select pg_sleep($1)", [patient(800) / 1000]);
      order.push(n);
    }));
    assert.deepEqual(order, [1, 2, 3]);
    const failing = session.query("select 1 / 0");
    const next = session.query("select 2 as n");
    await assert.rejects(failing, /division by zero/);
    assert.equal((await next).rows[0].n, 2);
    const late = session.query("select pg_sleep(600)");
    const behind = session.query("select 3");
    await assert.rejects(late, { code: "TIMEOUT" });
    await assert.rejects(behind, { code: "TIMEOUT" });
    assert.deepEqual(warnings, []);
  } finally {
    process.off("warning", warned);
    await sql(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and query = 'select pg_sleep(600)'`);
    await session.close();
  }
});
