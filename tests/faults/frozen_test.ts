import assert from "node:assert/strict";
import { connect, Consumer } from "../../mod.ts";
import { Inbox, patient, spawnDeno, test, until } from "../harness/mod.ts";
import { said } from "./_support/logs.ts";
import { numbers, publish, Running } from "./_support/running.ts";

/** What a worker's process said it has handled. */
function handled(stdout: string): number[] {
  return [...stdout.matchAll(/^handled (\d+)$/gm)].map(([, n]) => Number(n));
}

test("a process that freezes for longer than its lease is replaced, and on waking harms nothing", {
  ignore: Deno.build.os === "windows",
}, async (context) => {
  const since = Date.now();
  // So long that only the process that is stopped loses it, and not one that stands still for a moment.
  const options = { lease: patient(1500), acknowledgeInterval: 0 };
  const config = JSON.stringify({ options });
  await using child = spawnDeno(["tests/faults/_support/worker.ts", context.url, config]);
  await publish(context, 1, 5);
  await child.line(/^handled 5$/);
  const state = async () =>
    (await context.sql("select owner, handled::int from hark.partitions"))[0];
  await until(async () => (await state()).handled === 5);
  const first = (await state()).owner;
  const db = context.use(await connect(context.url));
  const b = new Running(db, options);
  await said("info", /standing by/, since);

  child.kill("SIGSTOP"); // its connections stay open, its locks held
  await publish(context, 6, 10);
  await b.atLeast(5, { deadline: 20_000 });
  await until(async () => (await state()).handled === 10);
  const { owner } = await state();
  assert.notEqual(owner, first);
  child.kill("SIGCONT");
  await publish(context, 11, 15);
  await b.atLeast(10);
  assert.equal((await state()).owner, owner, "it does not take back what it lost");
  assert.deepEqual(b.payloads, numbers(6, 15));

  // It stands by, and serves again when the other one has stopped.
  await b.stop();
  await publish(context, 16, 18);
  await child.line(/^handled 18$/);
  assert.deepEqual(handled(child.stdout), [...numbers(1, 5), ...numbers(16, 18)]);
});

test("workers killed under load, one after another: nothing lost, only the unstored repeated", {
  ignore: Deno.build.os === "windows",
}, async (context) => {
  const rounds = 4;
  const config = JSON.stringify({ options: { acknowledgeInterval: 20, acknowledgeCount: 50 } });
  const start = () => spawnDeno(["tests/faults/_support/worker.ts", context.url, config]);
  let total = 0;
  let stop = false;
  // Until the last one is killed: on a busy machine a number of them would be handled before that.
  const published = (async () => {
    while (!stop) await context.sql("select hark.notify('c', $1)", [String(++total)]);
  })();
  const workers = [start(), start()];
  const seen: number[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      // Whichever serves now has written most; both are killed in turn.
      const victim = workers[round]!;
      const before = handled(workers.map((w) => w.stdout).join("\n")).length;
      await until(
        () => handled(workers.map((w) => w.stdout).join("\n")).length > before + 100,
        { deadline: 20_000, what: "100 more to be handled" },
      );
      victim.kill("SIGKILL");
      await victim.ended();
      workers.push(start());
    }
    stop = true;
    await published;
    await until(
      () => new Set(handled(workers.map((w) => w.stdout).join("\n"))).size === total,
      { deadline: 40_000, what: "all to be handled" },
    );
    for (const worker of workers) {
      const own = handled(worker.stdout);
      assert.deepEqual(own, own.toSorted((x, y) => x - y), "each in order");
      seen.push(...own);
    }
    const repeats = seen.length - new Set(seen).size;
    assert(repeats <= rounds * 50, `${repeats} repeats`);
  } finally {
    stop = true;
    await published;
    for (const worker of workers) await worker[Symbol.asyncDispose]();
  }
});

test("many workers of one consumer come and go while it is published to: each handled once", async (context) => {
  const total = 600;
  const seen = new Inbox<unknown>();
  const db = context.use(await connect(context.url));
  const publishing = publish(context, 1, total);
  let over = false;
  const worker = async () => {
    while (!over) {
      const enough = seen.items.length + 40;
      const consumer: Consumer = new Consumer(db, {
        id: "c",
        channels: "c",
        handle: (n) => {
          seen.push(n.payload);
          if (seen.items.length >= enough || seen.items.length === total) void consumer.stop();
        },
      });
      const stopping = setInterval(() => over && void consumer.stop(), 50);
      await consumer.run().finally(() => clearInterval(stopping));
    }
  };
  const workers = Promise.all(numbers(1, 4).map(worker));
  await seen.atLeast(total, { deadline: 40_000 });
  over = true;
  await Promise.all([workers, publishing]);
  assert.deepEqual(seen.items, numbers(1, total));
});
