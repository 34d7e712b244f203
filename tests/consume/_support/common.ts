/**
 * Consumers of one process, and how many pages they read in common.
 *
 * @module
 */

import type { ConsumerOptions, Database } from "../../../mod.ts";
import { NEVER_POLL, numbers, Running } from "../../faults/_support/running.ts";
import { type TestContext, until } from "../../harness/mod.ts";
import { replaceIn } from "../../windows/_support/staging.ts";

/** Consumers c0, c1, … of channels of their own, ready. */
export async function many(
  context: TestContext,
  db: Database,
  count: number,
  options: (n: number) => Partial<ConsumerOptions> = () => ({}),
): Promise<Running[]> {
  const all = numbers(0, count - 1).map((n) =>
    context.use(
      new Running(db, { id: `c${n}`, channels: `c${n}`, pollInterval: NEVER_POLL, ...options(n) }),
    )
  );
  for (const { consumer } of all) await consumer.ready;
  return all;
}

/** Publishes a number on each of the channels c0, c1, … in one transaction. */
export async function publishEach(
  { sql }: TestContext,
  count: number,
  payload: number,
): Promise<void> {
  await sql("select hark.notify('c' || n, to_jsonb($1::int)) from generate_series(0, $2) n", [
    payload,
    count - 1,
  ]);
}

/** Counts the pages in common from now on, by a sequence of the test's own. */
export async function countPages({ url, sql }: TestContext): Promise<() => Promise<number>> {
  await sql("create sequence pages_in_common");
  await sql("grant usage on sequence pages_in_common to public");
  await replaceIn(url, {
    rule: "",
    in: "hark.common_window",
    // At the end: a sequence writes now and then, and no mark is made in a transaction that has.
    from: "return next;",
    to: "perform pg_catalog.nextval('public.pages_in_common'); return next;",
  });
  return async () => {
    const [row] = await sql(
      "select case when is_called then last_value else 0 end as n from pages_in_common",
    );
    return Number(row.n);
  };
}

/** Publishes 1, 2, … for each until they read in common. Returns the last number. */
export async function together(context: TestContext, all: readonly Running[]): Promise<number> {
  const pages = await countPages(context);
  let last = 0;
  await until(async () => {
    await publishEach(context, all.length, ++last);
    for (const one of all) await one.atLeast(last);
    return await pages() >= 5;
  }, { what: "pages in common", deadline: 40_000 });
  return last;
}
