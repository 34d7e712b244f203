/** `hark tail` on a standby, as a process of its own: what it prints while servers fail. */

import assert from "node:assert/strict";
import { hark } from "../cli/_support/hark.ts";
import { type Child, type OwnServer, ownServer, until } from "../harness/mod.ts";
import { Ledger } from "./_support/ledger.ts";
import { numbers, publish, type Sql } from "./_support/running.ts";
import { type Standby, standbyOf } from "./_support/standby.ts";

interface Line {
  readonly id: number;
  readonly payload: unknown;
}

/** Shows all of a channel as JSON, from the first on. */
function tailOf(primary: OwnServer, standby: Standby): Child {
  const { url } = primary;
  return hark(["tail", "c", "--json", "--from", "beginning", "--replica", standby.url], { url });
}

/** The whole lines it has printed. */
function printed(tail: Child): Line[] {
  return tail.stdout.split("\n").slice(0, -1).map((line) => JSON.parse(line));
}

/** How many lines it has printed. */
const count = (tail: Child) => tail.stdout.split("\n").length - 1;

/** Fails unless the ids of the lines are those of the log, each once. */
async function sameIds(lines: readonly Line[], on: Sql): Promise<void> {
  const rows = await on.sql("select id::int from hark.log where channel = 'c' order by id");
  assert.deepEqual(
    lines.map(({ id }) => id).toSorted((a, b) => a - b),
    rows.map(({ id }) => id),
    "the ids, each once",
  );
}

Deno.test("hark tail on a standby that is restarted prints each once that the primary's writers commit", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using tail = tailOf(primary, standby);
  const ledger = new Ledger();
  ledger.start(primary.url, 6);
  for (const mode of ["fast", "immediate"] as const) {
    const before = count(tail);
    await until(() => count(tail) > before + 200, { deadline: 60_000 });
    await standby.stop(mode);
    const missed = ledger.count;
    await until(() => ledger.count > missed + 200);
    await standby.start();
  }
  const before = count(tail);
  await until(() => count(tail) > before + 200, { deadline: 60_000 });
  await ledger.stop();
  assert(ledger.rolledBack > 0);
  await until(() => count(tail) >= ledger.count, { deadline: 60_000, what: "all to be printed" });
  await publish(primary, 1, 1);
  await until(() => printed(tail).at(-1)?.payload === 1, { what: "what comes after all" });
  const lines = printed(tail);
  ledger.check(lines.slice(0, -1).map(({ payload }) => payload), "hark tail");
  await sameIds(lines, primary);
  await tail.line(/The replica .* cannot be looked at/);
  tail.kill("SIGINT");
  assert.equal((await tail.ended()).code, 0);
});

Deno.test("hark tail goes on where its standby is promoted, prints each once, and says so", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using tail = tailOf(primary, standby);
  const before = new Ledger();
  before.start(primary.url, 6);
  await until(() => before.count > 500 && count(tail) > 200, { deadline: 60_000 });
  await before.stop();
  await standby.caughtUp(primary);
  // The old primary, whose address tail was given, does not come back.
  await primary.stop("immediate");
  await standby.promote();
  const after = new Ledger();
  after.start(standby.url, 6);
  await until(() => after.count > 300);
  await after.stop();
  await publish(standby, 1, 5);
  await until(() => printed(tail).some(({ payload }) => payload === 5), { deadline: 60_000 });
  const lines = printed(tail);
  const payloads = lines.map(({ payload }) => payload);
  assert.deepEqual(payloads.slice(-5), numbers(1, 5));
  before.check(payloads.slice(0, before.count), "before the promotion");
  after.check(payloads.slice(before.count, -5), "after the promotion");
  await sameIds(lines, standby);
  await tail.line(/The replica .* has been promoted/);
});
