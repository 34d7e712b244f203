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

/** `hark tail` of all of a channel, from the first on. */
class Tail implements AsyncDisposable {
  readonly child: Child;
  readonly #lines: Line[] = [];
  #read = 0;

  constructor({ url }: OwnServer, standby: Standby) {
    const args = ["tail", "c", "--json", "--from", "beginning", "--replica", standby.url];
    this.child = hark(args, { url });
  }

  /** The whole lines it has printed by now. */
  get lines(): readonly Line[] {
    const { stdout } = this.child;
    const end = stdout.lastIndexOf("\n") + 1;
    for (const line of stdout.slice(this.#read, end).split("\n")) {
      if (line !== "") this.#lines.push(JSON.parse(line));
    }
    this.#read = Math.max(this.#read, end);
    return this.#lines;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}

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
  const backlog = 20_000;
  await primary.sql(
    "select count(hark.notify('c', to_jsonb(n))) from generate_series(1, $1::int) n",
    [
      backlog,
    ],
  );
  await standby.caughtUp(primary);
  await using tail = new Tail(primary, standby);
  const ledger = new Ledger();
  ledger.start(primary.url, 6);
  // In the middle of the backlog, where it is held, then while it follows.
  // Not by looking now and then: it may print all of the backlog between two looks.
  await tail.child.line(/"payload"/, { deadline: 60_000 });
  tail.child.kill("SIGSTOP");
  for (const mode of ["immediate", "fast"] as const) {
    await standby.stop(mode);
    tail.child.kill("SIGCONT");
    const there = tail.lines.length;
    assert.equal(there < backlog, mode === "immediate", `${there} lines were there`);
    const missed = ledger.count;
    await until(() => ledger.count > missed + 200);
    await standby.start();
    await until(() => tail.lines.length > Math.max(there, backlog) + 200, { deadline: 60_000 });
  }
  await ledger.stop();
  assert(ledger.rolledBack > 0);
  await publish(primary, backlog + 1, backlog + 1);
  await until(() => tail.lines.at(-1)?.payload === backlog + 1, {
    deadline: 60_000,
    what: "all to be printed",
  });
  const payloads = tail.lines.map(({ payload }) => payload);
  const isNumber = (one: unknown) => typeof one === "number";
  const all = payloads.filter(isNumber);
  assert.deepEqual([all.length, all.findIndex((one, i) => one !== i + 1)], [backlog + 1, -1]);
  ledger.check(payloads.filter((one) => !isNumber(one)), "hark tail");
  await sameIds(tail.lines, primary);
  await tail.child.line(/The replica .* cannot be looked at/);
  tail.child.kill("SIGINT");
  assert.equal((await tail.child.ended()).code, 0);
});

Deno.test("hark tail goes on where its standby is promoted, prints each once, and says so", async () => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await using tail = new Tail(primary, standby);
  const before = new Ledger();
  before.start(primary.url, 6);
  await until(() => before.count > 500 && tail.lines.length > 200, { deadline: 60_000 });
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
  await until(() => tail.lines.some(({ payload }) => payload === 5), { deadline: 60_000 });
  const { lines } = tail;
  const payloads = lines.map(({ payload }) => payload);
  assert.deepEqual(payloads.slice(-5), numbers(1, 5));
  before.check(payloads.slice(0, before.count), "before the promotion");
  after.check(payloads.slice(before.count, -5), "after the promotion");
  await sameIds(lines, standby);
  await tail.child.line(/The replica .* has been promoted/);
});
