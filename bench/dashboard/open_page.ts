/**
 * A page that stays open: what it costs the database, and whether anything grows.
 *
 * @module
 */

import type { Queryable } from "@hark/postgres";
import type { Page } from "../../tests/dashboard/_support/page.ts";
import { median, round, say } from "../flags.ts";
import { pause, quantile } from "../own.ts";
import { applicationName, between } from "./cpu.ts";
import type { Timed } from "./timed.ts";

/** What is looked at. */
export interface OpenPage {
  readonly minutes: number;
  readonly db: Queryable;
  readonly clock: Timed;
  /** The page in a browser. */
  readonly page: Page | undefined;
  /** The CPU time of the dashboard's sessions. */
  readonly cpu: () => Promise<ReadonlyMap<number, number> | undefined>;
}

/** What there was at one moment. */
interface Sample {
  /** The heap of the page and of the process after their garbage was collected, in MiB. */
  readonly page: number;
  readonly nodes: number;
  readonly process: number;
  readonly connections: number;
}

/** Keeps the page open, and says in sentences what it did. */
export async function openPage(given: OpenPage): Promise<string[]> {
  const { minutes, db, clock, page, cpu } = given;
  if (page === undefined) return ["No page was open, as there is no browser."];
  await page.says("live");
  const step = Math.min(60_000, minutes * 60_000);
  const samples: Sample[] = [];
  const begun = performance.now();
  const before = await cpu();
  clock.take();
  const statements: number[] = [];
  while (performance.now() - begun < minutes * 60_000 - step / 2) {
    await pause(step);
    const { heap, nodes } = await page.memory();
    const { rows: [row] } = await db.query(
      "select count(*)::integer as n from pg_stat_activity where application_name = $1",
      [applicationName],
    );
    statements.push(...clock.take());
    samples.push({
      page: heap / 2 ** 20,
      nodes,
      process: Deno.memoryUsage().heapUsed / 2 ** 20,
      connections: row.n,
    });
    say(`${samples.length} min: ${JSON.stringify(samples.at(-1))}`);
  }
  const took = performance.now() - begun;
  const after = await cpu();
  await page[Symbol.asyncDispose]();
  const waited = statements.reduce((sum, ms) => sum + ms, 0);
  const core = before === undefined || after === undefined
    ? "the server does not tell its CPU time"
    : `they took ${round(100 * between(before, after) / took)} % of a core of the server`;
  return [
    `One page open in a browser for ${round(took / 60_000)} min: its statements took ${
      round(100 * waited / took)
    } % of the time, ${core}. The slowest of a hundred took ${
      round(quantile(statements, 0.99))
    } ms, the slowest of all ${round(Math.max(...statements))} ms.`,
    ...(["page", "nodes", "process", "connections"] as const).map((name) => grown(name, samples)),
    `Faults of the page: ${page.faults.length === 0 ? "none" : page.faults.join("; ")}.`,
  ];
}

const names = {
  page: "The heap of the page, in MiB",
  nodes: "The nodes of the page",
  process: "The heap of the server's process, in MiB",
  connections: "Its connections",
};

/** The medians of the first and the last fifth. */
function grown(name: keyof Sample, samples: readonly Sample[]): string {
  const fifth = Math.ceil(samples.length / 5);
  const of = (some: readonly Sample[]) => round(median(some.map((one) => one[name])));
  return `${names[name]}: ${of(samples.slice(0, fifth))} in the first fifth of the time, ${
    of(samples.slice(-fifth))
  } in the last.`;
}
