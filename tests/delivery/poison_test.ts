import assert from "node:assert/strict";
import { join } from "node:path";
import { Inbox, scratch, test, until } from "../harness/mod.ts";
import { connect, Consumer } from "../../mod.ts";
import { numbers } from "../faults/_support/running.ts";
import { Fleet, type Member } from "./_support/fleet.ts";
import { readLedger } from "./_support/ledger.ts";

/** The default of maxCrashes: two deaths among others, then two alone. */
const maxCrashes = 4;

for (const death of ["exit", "kill"] as const) {
  const what = death === "exit" ? "calls exit" : "is killed by what it handles";
  test(`a worker that ${what}, started again each time, gets over it: one dead letter, nothing lost`, async (context) => {
    await using folder = await scratch();
    const ledger = join(folder.path, "ledger");
    for (const n of [...numbers(1, 20), "poison", ...numbers(22, 60)]) {
      // The follower of the poison has its key.
      const key = n === "poison" || n === 22 ? "p" : `k${Number(n) % 7}`;
      await context.sql("select hark.notify('c', $1, $2)", [JSON.stringify(n), key]);
    }
    await using fleet = new Fleet(context.url);
    const start = () =>
      fleet.start({
        options: { partitions: 2, concurrency: 4, lease: 2000 },
        ledger,
        work: 2,
        trap: { payload: "poison", do: death },
      });
    let deaths = 0;
    let worker: Member = start();
    const dead = () =>
      context.sql("select id::int, key, error, attempts from hark.dead order by id");
    for (;;) {
      await until(async () => worker.ended || (await dead()).length > 0, {
        deadline: 20_000,
        what: `a dead letter or another death after ${deaths}`,
      });
      if ((await dead()).length > 0) break;
      deaths++;
      assert.match(worker.child.stdout, /^at "poison"/m, worker.child.stderr);
      assert(deaths <= maxCrashes, `${deaths} deaths, and no dead letter`);
      worker = start();
    }
    const rows = await dead();
    assert.deepEqual(
      rows.map(({ id }) => id),
      [21],
      `after ${deaths} deaths: ${Deno.inspect(rows)}`,
    );
    const [row] = rows;
    assert.match(row.error, /process|crash|worker/i);
    assert.match(row.error, /4/, "the error says how often");
    assert.equal(deaths, maxCrashes);

    const expected = numbers(1, 60).filter((id) => id !== 21);
    const ended = async () => (await readLedger(ledger)).filter((entry) => entry.what === "ended");
    await until(async () => new Set((await ended()).map(({ id }) => id)).size >= expected.length);
    const ids = new Set((await ended()).map(({ id }) => id));
    assert.deepEqual([...ids].toSorted((a, b) => a - b), expected, "the others flow");
    await until(async () => (await context.sql("select from hark.waiting")).length === 0);
    await fleet.stop();
    const began = (await readLedger(ledger)).filter((entry) => entry.what === "began");
    assert.equal(began.filter(({ id }) => id === 21).length, deaths, "a death each time, no more");
    assert.deepEqual(
      began.filter(({ key }) => key === "p").map(({ id }) => id),
      [...Array(deaths).fill(21), 22],
      "its follower came after it",
    );
  });
}

test("a crash counts for no notification as a failed attempt: none is given up before its maxAttempts", async (context) => {
  await using folder = await scratch();
  await context.sql("select hark.notify('c', '\"poison\"')");
  await context.sql(
    "select hark.notify('c', to_jsonb(n), n::text) from generate_series(2, 30) n",
  );
  await using fleet = new Fleet(context.url);
  const options = { concurrency: 1, lease: 2000, maxAttempts: 2 };
  const worker = fleet.start({
    options,
    ledger: join(folder.path, "ledger"),
    trap: { payload: "poison", do: "kill" },
  });
  await until(() => worker.ended, { what: "the crash" });
  // The next worker finds that what its handler needs is away.
  const told = new Inbox<number>();
  const consumer = new Consumer(context.use(await connect(context.url)), {
    ...options,
    id: "c",
    channels: "c",
    retry: { initial: "1h", maximum: "1h" },
    handle({ attempt }) {
      told.push(attempt);
      throw new Error("the bank is closed");
    },
  });
  void consumer.run();
  await until(() => told.items.length === 30, { what: "an attempt of each" });
  await consumer.stop();
  assert.deepEqual(await context.sql("select id, attempts, error from hark.dead"), []);
  assert.deepEqual(
    await context.sql("select attempts, count(*)::int from hark.waiting group by attempts"),
    [{ attempts: 1, count: 30 }],
  );
  assert(told.items.every((attempt) => attempt === 2), "each may have been delivered before");
});

test("workers that are killed at random, rather than by what they handle, give nothing up", async (context) => {
  await using folder = await scratch();
  const ledger = join(folder.path, "ledger");
  await context.sql("select hark.notify('c', to_jsonb(n)) from generate_series(1, 200) n");
  await using fleet = new Fleet(context.url);
  const handled = async () => (await readLedger(ledger)).filter(({ what }) => what === "ended");
  for (let round = 0; round < 5; round++) {
    const worker = fleet.start({
      options: { concurrency: 2, lease: 2000, acknowledgeInterval: 50 },
      ledger,
      pace: 20,
    });
    const before = (await handled()).length;
    await until(async () => (await handled()).length >= before + 10, { what: "some progress" });
    await fleet.kill(worker);
  }
  fleet.start({ options: { concurrency: 2, lease: 2000 }, ledger });
  const missing = async () => {
    const seen = new Set((await handled()).map(({ id }) => id));
    return numbers(1, 200).filter((id) => !seen.has(id));
  };
  await until(async () => (await missing()).length === 0).catch(() => {});
  assert.deepEqual(await missing(), [], Deno.inspect(await context.sql("select * from hark.dead")));
  await fleet.stop();
  assert.deepEqual(await context.sql("select id, error from hark.dead"), []);
});
