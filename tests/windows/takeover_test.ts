/** Another worker takes a consumer over while a window is being read. */

import assert from "node:assert/strict";
import { attend, RegisteredReader } from "./_support/reader.ts";
import { type Lab, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

const limits = { rows: 5 };

/** A worker that has acknowledged half a window and read on, and one that has taken over from it. */
async function takeOver(lab: Lab) {
  await lab.publish(12);
  const old = await RegisteredReader.open(await lab.client(), "r", ["c"], undefined, limits);
  const late = await lab.writer();
  await late.notify();
  await lab.publish(2);
  await old.step();
  const acknowledged = [...old.delivered];
  await old.page();
  await lab.sql("update hark.processes set lease_until = clock_timestamp() - interval '1 second'");
  const next = new RegisteredReader(await lab.client(), "r", limits);
  await next.claim();
  return { old, next, late, acknowledged };
}

const refused = (promise: Promise<unknown>) => assert.rejects(promise, { code: "HK005" });
const unfenced = { from: "if served <> cardinality(held) then", to: "if false then" };

const midWindow: Staging = {
  promise:
    "who takes over in mid-window reads on from what was acknowledged, and the old worker is refused",
  breaks: [
    { in: "hark.acknowledge", ...unfenced },
    {
      in: "hark.window",
      from: "if served is distinct from cardinality(held) then",
      to: unfenced.to,
    },
    { in: "hark.finish", ...unfenced },
    { in: "hark.begin_alone", from: "s.owner = $2 and s.epoch = $4", to: "true" },
    { in: "hark.release", from: "s.owner = $2 and s.epoch = h.epoch", to: "true" },
  ].map((broken) => ({ rule: `when ${broken.in} does not ask who is calling`, ...broken })),
  stage: async (lab) => {
    const { old, next, late, acknowledged } = await takeOver(lab);
    assert.equal(acknowledged.length, 5);
    await refused(old.acknowledge(5));
    await refused(old.page());
    const mine = old.identity;
    await refused(old.client.query("select hark.finish($1, $2, $3, $4, '{6}', '{0}')", mine));
    await refused(
      old.client.query("select hark.begin_alone($1, $2, 0, $3, 6)", [mine[0], mine[1], old.epoch]),
    );
    const { rows } = await old.client.query(
      "select hark.release($1, $2, $3, $4) as released",
      mine,
    );
    assert.equal(rows[0].released, 0);
    await late.commit();
    await next.drain();
    await assertExactlyOnce(next.client, [...acknowledged, ...next.delivered]);
  },
};

const whileItLives: Staging = {
  promise:
    "no worker takes over while the lease of the one that serves it runs, nor without a lease of their own",
  breaks: [
    {
      rule: "when the lease of who serves it does not count",
      in: "hark.claim",
      from: "or w.lease_until <= clock_timestamp() then true",
      to: "or true then true",
    },
    {
      rule: "when who claims needs none",
      in: "hark.claim",
      from: "and w.owner = $3 and w.lease_until > clock_timestamp()",
      to: "",
    },
  ],
  stage: async (lab) => {
    const old = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    const other = crypto.randomUUID();
    const claim = async () =>
      (await lab.sql("select * from hark.claim('r', '{0}', $1, true)", [other])).length;
    await attend(old.client, "r", other);
    assert.equal(await claim(), 0);
    await lab.sql(
      "update hark.processes set lease_until = clock_timestamp() - interval '1 second'",
    );
    assert.equal(await claim(), 0);
    await attend(old.client, "r", other);
    assert.equal(await claim(), 1);
  },
};

const emptyRest: Staging = {
  promise: "who takes over when the rest of the window is empty goes on to the next",
  stage: async (lab) => {
    const old = await RegisteredReader.open(await lab.client(), "r", ["c"], undefined, limits);
    await lab.publish(5);
    await lab.publish(3, "other");
    await old.step();
    await old.restart();
    await lab.publish(5);
    await old.drain();
    await assertExactlyOnce(old.client, old.delivered, ["c"]);
  },
};

const sameOwner: Staging = {
  promise: "a worker that claims again fences out what it sent under its earlier claim",
  stage: async (lab) => {
    const { next } = await takeOver(lab);
    const { epoch } = next;
    await next.claim();
    assert.equal(Number(next.epoch), Number(epoch) + 1);
    await next.page();
    next.epoch = epoch;
    await refused(next.acknowledge(5));
  },
};

const removed: Staging = {
  promise: "a worker whose consumer was removed is refused",
  stage: async (lab) => {
    const { next } = await takeOver(lab);
    await next.page();
    await lab.sql("delete from hark.consumers");
    await refused(next.acknowledge(5));
    await refused(next.page());
    const told = await attend(next.client, "r", next.owner);
    assert.equal(told.outcome, "removed");
  },
};

stagings("a consumer changes hands", [midWindow, whileItLives, emptyRest, sameOwner, removed]);
