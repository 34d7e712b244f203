/** A newer program takes over what an older one cannot read, while both run. */

import assert from "node:assert/strict";
import { connect, Consumer, type Database, NewerVersion, notify, status } from "../../mod.ts";
import { said } from "../faults/_support/logs.ts";
import { Inbox, patient, test, until } from "../harness/mod.ts";

/** Long enough that no worker takes a partition over from one that is only slow. */
const lease = Math.max(3000, patient(1250));

/** A worker of a program that knows payloads up to a version. */
function worker(
  db: Database,
  knows: number,
  seen: Inbox<string>,
  partitions = 1,
): Consumer<number> {
  return new Consumer<number>(db, {
    id: "c",
    channels: "n",
    partitions,
    lease,
    handle({ payload, key }) {
      if (payload > knows) throw new NewerVersion(`version ${payload} is not known yet`);
      seen.push(`${payload} of ${key} by ${knows}`);
    },
  });
}

/** Runs workers one after the other, and stops them at the end. */
async function started(...workers: readonly Consumer<number>[]): Promise<AsyncDisposable> {
  const runs: Promise<void>[] = [];
  for (const one of workers) {
    runs.push(one.run());
    await one.ready;
  }
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all(workers.map((one) => one.stop()));
      await Promise.all(runs);
    },
  };
}

test("an old worker with the only partition gives it to a newer worker that stands by", async (context) => {
  const [db, other] = [
    context.use(await connect(context.url)),
    context.use(await connect(context.url)),
  ];
  const since = Date.now();
  const seen = new Inbox<string>();
  await using _old = await started(worker(db, 1, seen));
  await notify(db, "n", 2, { key: "a" });
  await notify(db, "n", 1, { key: "a" });
  await until(async () => (await status(db)).consumers[0]?.newer?.count === 1);
  await using _new = await started(worker(other, 2, seen));
  await until(() => seen.items.length === 2, { what: "the newer worker to handle both" });
  assert.deepEqual(seen.items, ["2 of a by 2", "1 of a by 2"]);
  await said("info", /gives its partitions to a worker that joined later/, since);
  await until(async () => (await status(db)).consumers[0]!.newer === null);
  // What comes then is handled by the newer worker, also what the old one knows.
  await notify(db, "n", 1, { key: "b" });
  await until(() => seen.items.length === 3);
  assert.equal(seen.items[2], "1 of b by 2");
});

test("a newer notification is handed to a newer worker that was there before it", async (context) => {
  const [db, other] = [
    context.use(await connect(context.url)),
    context.use(await connect(context.url)),
  ];
  const seen = new Inbox<string>();
  await using _both = await started(worker(db, 1, seen), worker(other, 2, seen));
  await notify(db, "n", 1, { key: "a" });
  await until(() => seen.items.length === 1);
  assert.deepEqual(seen.items, ["1 of a by 1"]);
  await notify(db, "n", 2, { key: "a" });
  await until(() => seen.items.length === 2);
  assert.deepEqual(seen.items[1], "2 of a by 2");
});

test("of several partitions, the one with a newer notification goes to the newer worker that stands by", async (context) => {
  const dbs = await Promise.all([1, 2, 3].map(async () => context.use(await connect(context.url))));
  const seen = new Inbox<string>();
  await using _old = await started(worker(dbs[0]!, 1, seen, 2), worker(dbs[1]!, 1, seen, 2));
  const keys = ["a", "b", "c", "d", "e", "f"];
  await until(async () => {
    const [one] = await context.sql(
      "select count(distinct owner)::int as owners from hark.partitions where owner is not null",
    );
    return one!.owners === 2;
  });
  for (const key of keys) await notify(dbs[0]!, "n", 2, { key });
  await using _new = await started(worker(dbs[2]!, 2, seen, 2));
  // Each of the two old workers gives its partition up. Shares are whole, so one comes to the newer worker.
  await until(() => seen.items.length > 0, { what: "the newer worker to handle some" });
});

test("workers that all are too old pass a partition on once, and then keep it", async (context) => {
  const dbs = await Promise.all([1, 2, 3].map(async () => context.use(await connect(context.url))));
  const seen = new Inbox<string>();
  await using _old = await started(...dbs.slice(0, 2).map((db) => worker(db, 1, seen)));
  await notify(dbs[0]!, "n", 2, { key: "a" });
  const claims = async () =>
    Number((await context.sql("select epoch::int as epoch from hark.partitions"))[0]!.epoch);
  const isQuiet = async () => {
    // Two leases of heartbeats, in each of which a worker could give the partition up.
    const before = await claims();
    const [{ now }] = await context.sql(
      "select extract(epoch from clock_timestamp())::float8 as now",
    ) as [{ now: number }];
    await until(async () => {
      const [row] = await context.sql(
        `select min(lease_until) > to_timestamp($1::float8) + $2 * interval '1 ms' as renewed
        from hark.processes`,
        [now, 2 * lease],
      );
      return row!.renewed;
    });
    return before === await claims();
  };
  await until(isQuiet, { deadline: 30_000, what: "the partition to stay" });
  assert((await claims()) <= 4, `${await claims()} claims`);
  // A newer worker that joins later still gets it.
  await using _new = await started(worker(dbs[2]!, 2, seen));
  await until(() => seen.items.length === 1, { deadline: 20_000 });
  assert.deepEqual(seen.items, ["2 of a by 2"]);
});
