/** The workers of a process, which share a lease: how they leave it. */

import assert from "node:assert/strict";
import { connect, Consumer, type Database } from "../../mod.ts";
import { Membership } from "../../src/consume/lease/membership.ts";
import type { Identity } from "../../src/consume/state/identity.ts";
import { connectionsOf } from "../../src/database/database.ts";
import { connectionsKey, type Queryable } from "../../src/database/queryable.ts";
import { test, type TestContext, until, within } from "../harness/mod.ts";

const identity = (consumer: string): Identity => ({
  consumer,
  owner: crypto.randomUUID(),
  lease: 60_000,
  channels: [consumer],
  filter: null,
  transactional: false,
});

async function registered(context: TestContext, ...consumers: string[]): Promise<Database> {
  for (const one of consumers) {
    await context.sql("select hark.register($1::text, array[$1::text])", [one]);
  }
  return context.use(await connect(context.url));
}

test("a run that has ended takes no later run of its consumer with it", async (context) => {
  const db = await registered(context, "x", "y");
  const lane = connectionsOf(db)!.lane();
  const runOf = (consumer: string) => new Membership(identity(consumer), db, undefined);
  const [first, beside] = [runOf("x"), runOf("y")];
  assert.equal(await first.enter(lane, 0), "entered");
  assert.equal(await beside.enter(lane, 0), "entered");
  await first.leave(lane);
  await first.end();
  const second = runOf("x");
  assert.equal(await second.enter(lane, 0), "entered");
  await first.end(); // what ends a drain ends it twice
  await beside.leave(lane);
  await beside.end();
  const third = runOf("x");
  assert.equal(await third.enter(lane, 0), "busy", "the second run serves x");
  await second.leave(lane);
  await second.end();
  await lane.close();
  assert.deepEqual(await context.sql("select from hark.processes"), []);
});

/** A server whose answers the test gives: to one heartbeat after another, and to all else at once. */
class Slow implements Queryable {
  readonly #waiting: (() => void)[] = [];
  [connectionsKey] = { lane: () => this };

  async query(text: string, values: readonly unknown[] = []) {
    if (!text.includes("hark.heartbeat(")) return { rows: [{}] };
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const rows = JSON.parse(values[5] as string).map((_: string, i: number) => ({
      n: i + 1,
      outcome: "serve",
      tag: "t",
      mine: "[]",
      epochs: "[]",
      free: "[]",
      gone: "[]",
      changes: "0",
      mark: null,
      renewed: null,
    }));
    return { rows };
  }

  /** Answers a heartbeat, once there is one. */
  async answer(): Promise<void> {
    await until(() => this.#waiting.length > 0, { what: "a heartbeat" });
    this.#waiting.shift()!();
  }
}

test("a worker leaves although others of its process send one heartbeat after another", async () => {
  const server = new Slow();
  const db = server as unknown as Database;
  const [leaving, ...others] = ["a", "b", "c"].map((one) =>
    new Membership(identity(one), db, undefined)
  );
  let left = false;
  let asked = others[0]!.heartbeat(server);
  const next = () => {
    // Another one always asks while one heartbeat is on its way.
    const before = asked;
    others.push(others.shift()!);
    asked = others[0]!.heartbeat(server);
    return before;
  };
  next();
  const going = leaving!.leave(server).then(() => left = true);
  for (let n = 0; n < 20 && !left; n++) {
    await server.answer();
    await next();
  }
  assert(left, "it has left while others go on");
  await going;
});

test("consumers that fall asleep, or stop, in the same moment leave no process behind", async (context) => {
  const db = context.use(await connect(context.url));
  let handled = 0;
  const consumers = ["a", "b", "c"].map((id) =>
    new Consumer(db, {
      id,
      channels: "x",
      idle: "sleep",
      idleAfter: 300,
      handle: () => void handled++,
    })
  );
  const runs = consumers.map((one) => one.run());
  const count = async (table: string) => (await context.sql(`select from hark.${table}`)).length;
  for (let round = 1; round <= 3; round++) {
    await until(async () => await count("asleep") === 3, { what: "all to sleep" });
    assert.equal(await count("processes"), 0);
    await context.sql("select hark.notify('x', '1')");
    await until(() => handled === 3 * round, { what: "all to wake" });
  }
  await within(Promise.all(consumers.map((one) => one.stop())));
  await Promise.all(runs);
  assert.equal(await count("processes"), 0);
});
