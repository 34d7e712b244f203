import assert from "node:assert/strict";
import { join } from "node:path";
import { connect, Consumer, type ConsumerOptions } from "../../mod.ts";
import { ownServer, scratch, until } from "../harness/mod.ts";
import { Chaos, seconds, seed, settled, told } from "./_support/chaos.ts";
import { Fleet } from "./_support/fleet.ts";
import { assertRight, judge, type Published, readLedger } from "./_support/ledger.ts";
import { committed, Publishers, publishersSql } from "./_support/publishers.ts";

const lease = 2000;
const readAhead = 200;
const acknowledgeCount = 50;

/** Every third key is published on another channel. */
const channelOf = (key: string | null) => Number(key?.slice(1) ?? 1) % 3 === 0 ? "d" : "c";

const consumers: (ConsumerOptions & { id: string; wants: (p: Published) => boolean })[] = [
  { id: "one", channels: ["c", "d"], partitions: 4, concurrency: 4, wants: () => true },
  { id: "two", channels: "c", partitions: 4, concurrency: 1, wants: (p) => p.channel === "c" },
  {
    id: "three",
    channels: ["c", "d"],
    filter: { payload: { even: true } },
    partitions: 3,
    concurrency: 3,
    wants: (p) => p.version % 2 === 0,
  },
];

Deno.test("whatever befalls workers and server, all that was committed is handled, each key in order", async () => {
  const chance = seed();
  await using server = await ownServer({ settings: { max_connections: "200" } });
  await server.sql(publishersSql);
  await using folder = await scratch();
  const ledgerOf = (id: string) => join(folder.path, `${id}.ledger`);
  await using fleet = new Fleet(server.url);
  for (const { wants: _, ...options } of consumers) {
    for (let worker = 0; worker < 2; worker++) {
      fleet.start({
        options: {
          lease,
          readAhead,
          acknowledgeCount,
          acknowledgeInterval: 100,
          retry: { initial: 50, maximum: 500 },
          ...options,
        },
        ledger: ledgerOf(options.id),
        work: 3,
        flaky: 0.01,
      });
    }
  }
  await using publishers = new Publishers(server.url, { channelOf, seed: chance });
  const chaos = new Chaos(server, fleet, lease, chance);
  await told(fleet, chaos, chance, async () => {
    for (const { id } of consumers) {
      await until(async () => (await readLedger(ledgerOf(id))).length > 20, {
        what: `${id} to be at work`,
      });
    }
    await chaos.run(seconds() * 1000);
    await publishers.stop();
    const published = await committed(server);
    for (const { id, wants } of consumers) {
      const wanted = published.filter(wants);
      const verdict = async () => judge(wanted, await readLedger(ledgerOf(id)));
      await until(async () => (await verdict()).missing.length === 0, { deadline: 30_000 })
        .catch(() => {}); // the verdict below says it better
      assertRight(id, await verdict());
    }
    await settled(server);
    fleet.assertRunning();
    await fleet.stop();
    assert.deepEqual(await server.sql("select * from hark.dead"), [], "no worker gave anything up");
    for (const { id, wants } of consumers) {
      const verdict = judge(published.filter(wants), await readLedger(ledgerOf(id)));
      assertRight(id, verdict);
      const times = chaos.interruptions.get(id) ?? 0;
      const bound = times * (readAhead + acknowledgeCount);
      const figures = `${id}: ${verdict.repeats} repeats of ${published.filter(wants).length} ` +
        `after ${times} interruptions`;
      if (Deno.env.has("HARK_LEDGER_SECONDS")) console.log(figures);
      assert(verdict.repeats <= bound, `${figures}, more than ${bound}`);
    }
    await nothingLeft(server.url);
  });
});

/** The next worker finds nothing to handle. */
async function nothingLeft(url: string): Promise<void> {
  await using db = await connect(url);
  for (const { wants: _, ...options } of consumers) {
    const next = new Consumer(db, { ...options, handle() {} });
    assert.equal(await next.drain(), 0, `all of ${options.id} was stored`);
  }
}
