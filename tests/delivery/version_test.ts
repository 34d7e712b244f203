import assert from "node:assert/strict";
import { connect, Consumer, type HandlerContext, type Notification } from "../../mod.ts";
import { Inbox, patient, test, until } from "../harness/mod.ts";
import { logged, said, sentence } from "../faults/_support/logs.ts";
import { NEVER_POLL, publish, Running } from "../faults/_support/running.ts";

test("an old worker that is started again in a rolling change does not undo it", async (context) => {
  const db = context.use(await connect(context.url));
  const before = { channels: "a", version: 1 };
  const after = { channels: ["a", "b"], version: 2 };
  const old = new Running(db, before);
  await publish(context, 1, 1, "a");
  await old.atLeast(1);
  await until(async () =>
    Number((await context.sql("select handled from hark.partitions"))[0].handled) === 1
  );
  const fresh = context.use(new Running(db, { ...after, pollInterval: NEVER_POLL }));
  await publish(context, 2, 2, "b");
  await fresh.atLeast(1);
  await old.stop();
  const since = Date.now();
  const again = context.use(new Running(db, before));
  await said("warning", /another worker has changed its channels/, since);
  await publish(context, 3, 3, "b");
  await publish(context, 4, 4, "a");
  await fresh.atLeast(3);
  assert.deepEqual(fresh.payloads, [2, 3, 4]);
  assert.deepEqual(again.payloads, []);
});

test("an old worker that claims while its consumer is changed gets nothing of the new definition", async (context) => {
  const { sql } = context;
  const db = context.use(await connect(context.url));
  await new Consumer(db, { id: "c", channels: "a", version: 1, handle() {} }).drain();
  const changing = await context.client();
  await changing.query("begin");
  await changing.query("select hark.register('c', array['a', 'b'], version => 2)");
  // It sees the definition as it was, and claims what is free.
  const old = context.use(new Running(db, { channels: "a", version: 1 }));
  await until(async () => {
    const [{ count }] = await sql(
      `select count(*)::int from pg_stat_activity where datname = current_database()
         and wait_event_type = 'Lock' and query like '%hark.claim(%'`,
    );
    return count === 1;
  }, { what: "the old worker to wait for the partition" });
  const since = Date.now();
  await changing.query("commit");
  await said("warning", /another worker has changed its channels/, since);
  assert.deepEqual(await sql("select owner from hark.partitions"), [{ owner: null }]);
  assert.deepEqual(old.payloads, []);
});

test("a drain of a lower version is refused also if no worker is there, and changes nothing", async (context) => {
  const db = context.use(await connect(context.url));
  const drain = (channels: string, version: number, wait = true) =>
    new Consumer(db, { id: "c", channels, version, handle() {} }).drain({ wait });
  await drain("a", 2);
  const since = Date.now();
  for (const wait of [true, false]) {
    await assert.rejects(drain("b", 1, wait), {
      code: "OUTDATED",
      message:
        /^consumer "c" has other channels, .* by a higher version or by workers that serve it\. /,
    });
  }
  assert.deepEqual(await context.sql("select channels, version from hark.consumers"), [
    { channels: ["a"], version: 2 },
  ]);
  const told = logged.items.filter(({ timestamp }) => timestamp >= since).map(sentence);
  assert(!told.some((one) => /now reads the channels/.test(one)), told.join("\n"));
});

test("a worker that stands by serves the consumer again when no other worker does", async (context) => {
  const db = context.use(await connect(context.url));
  const old = context.use(new Running(db, { channels: "a", lease: patient(1000) }));
  await until(async () => (await context.sql("select from hark.workers")).length === 1);
  // Taken for dead, as one is that a suspended machine keeps from its heartbeats.
  await until(async () => {
    await context.sql("delete from hark.workers");
    return await context.sql("select hark.register('c', array['a', 'b'])").then(
      () => true,
      (error) => {
        assert.equal(error.code, "HK008");
        return false; // it was quicker with its next heartbeat
      },
    );
  });
  const fresh = new Running(db, { channels: ["a", "b"], lease: patient(1000) });
  await publish(context, 1, 1, "b");
  await fresh.atLeast(1);
  await fresh.stop();
  await publish(context, 2, 2, "a");
  await old.atLeast(1);
  assert.deepEqual(old.payloads, [2]);
});

test("the fields of a subclass are its options, and the options it is given win", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql("create table public.written (n integer)");
  class Writing extends Consumer<number> {
    override readonly id = "writing";
    override readonly channels = "c";
    override readonly transactional = true;
    override readonly maxAttempts = 1;
    override readonly partitions: number = 3;
    override async handle({ payload }: Notification<number>, { tx }: HandlerContext) {
      await tx.query("insert into public.written values ($1)", [payload]);
      if (payload === 2) throw new Error("broken");
    }
  }
  await publish(context, 1, 3);
  assert.equal(await new Writing(db, { partitions: 2 }).drain(), 2);
  assert.deepEqual(
    (await context.sql("select n from public.written order by n")).map(({ n }) => n),
    [1, 3],
  );
  const [{ attempts }] = await context.sql("select attempts from hark.dead");
  assert.equal(attempts, 1);
  assert.equal((await context.sql("select from hark.partitions")).length, 2);
  class Wrong extends Writing {
    override readonly concurrency = 0;
  }
  assert.throws(() => new Wrong(db), { code: "BAD_OPTION", message: /concurrency is 0/ });
});

test("a handler that ends its transaction by itself, or whose COMMIT is refused, has failed", async (context) => {
  const db = context.use(await connect(context.url));
  await context.sql(`create table public.kept (
    n integer unique deferrable initially deferred)`);
  const dead = new Inbox<string>();
  const running = context.use(
    new Running(db, {
      transactional: true,
      maxAttempts: 2,
      retry: { initial: 5 },
      onDeadLetter: (error, n) => dead.push(`${n.payload} ${(error as Error).message}`),
      handle: async ({ payload }, { tx }) => {
        if (payload === 1) await tx.query("rollback");
        else await tx.query("insert into public.kept values (7)");
      },
    }),
  );
  await publish(context, 1, 3);
  await dead.atLeast(2);
  assert.match(dead.items.find((text) => text.startsWith("1"))!, /ended the transaction itself/);
  assert.match(dead.items.find((text) => text.startsWith("3"))!, /duplicate key/);
  await until(async () => (await context.sql("select from hark.dead")).length === 2);
  assert.equal(running.payloads.filter((n) => n === 3).length, 2);
  assert.equal((await context.sql("select from public.kept")).length, 1);
});
