/**
 * Every order of the steps of two publishers and of those that make marks, against the real functions: a
 * reader is given each notification once, although no publisher follows the last of them. Orders that
 * differ only by steps that commute count as one. Of many orders some are run, chosen at random;
 * `HARK_ORDERS=all` runs all, and also those of a cut that count as one.
 */

import assert from "node:assert/strict";
import { connect, disconnect, type OwnServer, ownServer } from "../harness/mod.ts";
import { type Actors, beginningsOf, isWhole, ordersOf, some } from "./_support/orders.ts";
import { type Break, replaceIn } from "./_support/staging.ts";
import { prepare, Stage } from "./_support/stage.ts";
import { RegisteredReader } from "./_support/reader.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

const cut = ["snapshot", "sequence", "store and read"] as const;
/** A private mark, to which the reader reads. */
const look = ["snapshot", "sequence and read"] as const;
const publishers = { slow: ["number", "id", "commit"], last: ["number and id", "commit"] } as const;

async function server(): Promise<OwnServer> {
  const own = await ownServer({ settings: { autovacuum: "off" } });
  await own.sql("select hark.incarnation()");
  await prepare(own);
  return own;
}

/** Runs the orders one after the other. */
async function run(own: OwnServer, actors: Actors, orders: readonly string[][]): Promise<void> {
  await using stage = await Stage.open(own, actors);
  for (const order of orders) await stage.run(order);
}

const oneCut = { ...publishers, cutter: cut };

Deno.test("in every order of two publishers' steps and a cut's, each notification is read once", async () => {
  await using own = await server();
  const orders = ordersOf(oneCut, isWhole);
  assert.equal(orders.length, isWhole ? 560 : 60);
  await run(own, oneCut, orders);
});

const twoCuts = { ...publishers, cutter: cut, other: cut };
const oneLook = { ...publishers, looker: look };

const more: readonly [what: string, actors: Actors, orders: number][] = [
  ["a look's", oneLook, 43],
  ["a cut's and a look's", { ...oneCut, looker: look }, 1_494],
  ["two cuts'", twoCuts, 2_444],
];
for (const [what, actors, count] of more) {
  Deno.test(`in the orders of two publishers' steps and ${what}, each notification is read once`, async () => {
    await using own = await server();
    const orders = ordersOf(actors);
    assert.equal(orders.length, count);
    await run(own, actors, some(orders, 150));
  });
}

Deno.test("after a crash in an order, each notification that has survived is read once", async () => {
  await using own = await server();
  for (const beginning of some(beginningsOf(ordersOf(oneCut)), 8)) {
    let reader: RegisteredReader;
    {
      await using stage = await Stage.open(own, oneCut);
      reader = await stage.register();
      await stage.run(beginning, "crash");
    }
    await own.start();
    const client = await connect(own.url);
    try {
      await client.query("select hark.notify('c')");
      const again = new RegisteredReader(client, reader.consumer);
      again.owner = reader.owner;
      await again.claim();
      await again.drain();
      await assertExactlyOnce(client, [...reader.delivered, ...again.delivered]);
    } catch (error) {
      throw new Error(`a crash after ${beginning.join(", ")}`, { cause: error });
    } finally {
      await disconnect(client);
      await own.sql("truncate hark.log");
    }
  }
});

const faults: readonly (Break & { actors: Actors })[] = [
  {
    rule: "a mark need not be settled to be the last",
    actors: oneCut,
    in: "hark.new_mark",
    from: "and last.floor = last.max_id and last.life",
    to: "and last.life",
  },
  {
    rule: "the floor does not lag",
    actors: oneCut,
    in: "hark.new_mark",
    from: "m.floor := last.max_id;",
    to: "m.floor := m.max_id;",
  },
  {
    rule: "a private mark knows no stragglers",
    actors: oneLook,
    in: "hark.new_mark",
    from: "    m.running := cardinality(m.stragglers);",
    to: "    if private then m.stragglers := '{}'; end if; m.running := cardinality(m.stragglers);",
  },
  {
    rule: "the mark that is built upon is read after the snapshot",
    actors: twoCuts,
    in: "hark.new_mark",
    from: "    m.stragglers := '{}';",
    to:
      `    select n.* into last from hark.marks n order by n.upper desc, n.running, n.number desc limit 1;
    m.stragglers := '{}';`,
  },
];

Deno.test("the orders find each of these faults", async (t) => {
  for (const { actors, ...fault } of faults) {
    await t.step(fault.rule, async () => {
      await using own = await server();
      await replaceIn(own.url, fault);
      await assert.rejects(run(own, actors, ordersOf(actors)), assert.AssertionError);
    });
  }
});
