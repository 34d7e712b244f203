import assert from "node:assert/strict";
import { connect, type Database, HarkError, notify } from "../../mod.ts";
import { type OwnServer, ownServer, patient, until } from "../harness/mod.ts";
import { said } from "./_support/logs.ts";
import { listenBackends, NEVER_POLL, Reading, Running } from "./_support/running.ts";

/** Publishes 1, 2, 3, … one after another until told to stop, over whatever happens to the server. */
class Publisher {
  /** What is known to have been committed. */
  readonly committed: number[] = [];
  /** What may or may not have been: the answer was lost. */
  readonly unknown: number[] = [];
  readonly #db: Database;
  readonly #done: Promise<void>;
  #stop = false;

  constructor(db: Database, from = 1) {
    this.#db = db;
    this.#done = this.#run(from);
  }

  async #run(n: number): Promise<void> {
    for (; !this.#stop; n++) {
      try {
        await notify(this.#db, "c", n);
        this.committed.push(n);
      } catch (error) {
        assert(error instanceof HarkError, String(error));
        this.unknown.push(n);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async stop(): Promise<void> {
    this.#stop = true;
    await this.#done;
  }
}

/** Checks that all that was committed has arrived, nothing out of order; gives how many came twice. */
function arrived(payloads: readonly unknown[], publisher: Publisher): number {
  const got = new Set(payloads as number[]);
  const lost = publisher.committed.filter((n) => !got.has(n));
  assert.deepEqual(lost, [], `lost ${lost.length} of ${publisher.committed.length}`);
  const known = new Set([...publisher.committed, ...publisher.unknown]);
  assert([...got].every((n) => known.has(n)), "and nothing else");
  return payloads.length - got.size;
}

/** Takes a server away for a while, under load, and proves that readers go on by themselves. */
async function outage(server: OwnServer, seconds: number): Promise<void> {
  await using db = await connect(server.url);
  await using running = new Running(db, { pollInterval: NEVER_POLL });
  await using reading = new Reading(db, "c", { from: "beginning", pollInterval: NEVER_POLL });
  const publisher = new Publisher(db);
  await running.atLeast(50);
  await reading.inbox.atLeast(1);
  const since = Date.now();
  await server.stop("fast");
  const before = publisher.committed.length;
  await said("warning", /LISTEN connection lost/, since);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000)); // the outage itself
  await server.start();
  const back = performance.now();
  await until(() => publisher.committed.length > before + 50, { deadline: 30_000 });
  const last = () => publisher.committed.at(-1)!;
  const target = last();
  await until(() => running.payloads.includes(target), { deadline: 30_000 });
  await until(() => reading.payloads.includes(target), { deadline: 30_000 });
  const took = performance.now() - back;
  // Back for good: a session LISTENs, and nothing else would wake a reader.
  await until(async () => (await listenBackends(server)).length === 1, { deadline: 20_000 });
  const later = last() + 20;
  await until(() => running.payloads.includes(later) && reading.payloads.includes(later), {
    deadline: 10_000,
  });
  await publisher.stop();
  await until(() => running.payloads.includes(last()) && reading.payloads.includes(last()));
  assert.equal(arrived(running.payloads, publisher), 0, "no repeats: the process lived on");
  arrived(reading.payloads, publisher);
  assert(took < patient(20_000), `it took ${Math.round(took)} ms`);
}

Deno.test("readers go on by themselves after a 5 s restart and after 45 s without a server", async () => {
  await using short = await ownServer();
  await using long = await ownServer();
  const results = await Promise.allSettled([outage(short, 5), outage(long, 45)]);
  for (const result of results) if (result.status === "rejected") throw result.reason;
});

for (
  const [how, crash] of [
    ["SIGQUIT", (server: OwnServer) => server.stop("immediate")],
    ["kill -9 of every process", (server: OwnServer) => server.kill()],
  ] as const
) {
  Deno.test(`a crash of the server (${how}) under load loses nothing, three times over`, async () => {
    await using server = await ownServer();
    await using db = await connect(server.url, { maxReconnectDelay: 500 });
    await using running = new Running(db, { pollInterval: NEVER_POLL, pageSize: 20 });
    await using reading = new Reading(db, "c", {
      from: "beginning",
      pollInterval: NEVER_POLL,
      pageSize: 20,
    });
    const publishers = [1, 1_000_000, 2_000_000, 3_000_000].map((n) => new Publisher(db, n));
    // A reader that is still starting tells of a lost connection, and ends.
    await running.consumer.ready;
    await reading.inbox.atLeast(1);
    for (let round = 1; round <= 3; round++) {
      const sofar = publishers.map((p) => p.committed.length);
      await until(
        () => publishers.every((p, at) => p.committed.length > sofar[at]! + 50),
        { deadline: 30_000, what: "some load" },
      );
      await crash(server);
      await server.start();
    }
    const sofar = publishers.map((p) => p.committed.length);
    await until(
      () => publishers.every((p, at) => p.committed.length > sofar[at]! + 20),
      { deadline: 30_000, what: "some load" },
    );
    await Promise.all(publishers.map((p) => p.stop()));
    const last = publishers.map((p) => p.committed.at(-1)!);
    const all = (payloads: unknown[]) => last.every((n) => payloads.includes(n));
    await until(() => all(running.payloads) && all(reading.payloads), { deadline: 30_000 });
    const committed = publishers.flatMap((p) => p.committed);
    for (const payloads of [running.payloads, reading.payloads]) {
      const got = new Set(payloads);
      const lost = committed.filter((n) => !got.has(n));
      assert.deepEqual(lost, [], `lost ${lost.length} of ${committed.length}`);
    }
  });
}

Deno.test("a consumer of another process misses nothing of a crash it slept through", async () => {
  await using server = await ownServer();
  {
    await using db = await connect(server.url);
    await using running = new Running(db, {});
    await notify(db, "c", 1);
    await running.atLeast(1);
  }
  await using db = await connect(server.url);
  const publisher = new Publisher(db, 2);
  await until(() => publisher.committed.length > 100);
  await server.kill();
  await server.start();
  const before = publisher.committed.length;
  await until(() => publisher.committed.length > before + 100, { deadline: 30_000 });
  await publisher.stop();
  await using running = new Running(db, {});
  await until(() => running.payloads.includes(publisher.committed.at(-1)), { deadline: 30_000 });
  assert.equal(arrived(running.payloads, publisher), 0);
});
