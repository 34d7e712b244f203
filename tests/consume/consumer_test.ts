import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  type HandlerContext,
  type Notification,
  notify,
  type Queryable,
} from "../../mod.ts";
import { publish, Running } from "../faults/_support/running.ts";
import { test } from "../harness/mod.ts";

test("a subclass with fields and a method is a consumer; options win over fields", async (context) => {
  const db = context.use(await connect(context.url));
  const seen: string[] = [];
  class Billing extends Consumer<{ n: number }> {
    override readonly id: string = "billing";
    override readonly channels: string | readonly string[] = ["orders"];
    override handle(notification: Notification<{ n: number }>, { signal }: HandlerContext): void {
      seen.push(`${this.id} ${notification.channel} ${notification.payload.n} ${signal.aborted}`);
    }
  }
  await notify(db, "orders", { n: 1 });
  await notify(db, "invoices", { n: 2 });
  assert.equal(await new Billing(db).drain(), 1);
  assert.deepEqual(seen.splice(0), ["billing orders 1 false"]);

  assert.equal(await new Billing(db, { id: "other", channels: "invoices" }).drain(), 1);
  assert.match(seen.splice(0).join(), / invoices 2 /);
  const names = await context.sql("select name, channels from hark.consumers order by 1");
  assert.deepEqual(names, [
    { name: "billing", channels: ["orders"] },
    { name: "other", channels: ["invoices"] },
  ]);
  assert.equal(
    await new Billing(db, { id: "third", handle: (n) => void seen.push(`option ${n.payload.n}`) })
      .drain(),
    1,
  );
  assert.deepEqual(seen, ["option 1"]);
});

test("a handler that is an instance field works as well", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 1);
  const seen: unknown[] = [];
  class Field extends Consumer {
    override readonly id: string = "field";
    override readonly channels: string = "c";
    override handle = (n: Notification) => void seen.push(n.payload);
  }
  await new Field(db).drain();
  assert.deepEqual(seen, [1]);
});

test("a class without an id, channels or a handler is told by run() which is missing", async (context) => {
  const db = context.use(await connect(context.url));
  const cases: [new (db: Queryable) => Consumer, RegExp][] = [
    [
      class extends Consumer {
        override channels = "c";
        override handle() {}
      },
      /a consumer has no id/,
    ],
    [
      class extends Consumer {
        override id = "c";
        override handle() {}
      },
      /channels of consumer "c" is undefined/,
    ],
    [
      class extends Consumer {
        override id = "c";
        override channels = "c";
      },
      /consumer "c" has no handler/,
    ],
  ];
  for (const [made, message] of cases) {
    for (const how of ["run", "drain"] as const) {
      const consumer = new made(db);
      await assert.rejects(consumer[how](), { name: "HarkError", code: "BAD_OPTION", message });
    }
  }
  assert.deepEqual(await context.sql("select * from hark.consumers"), []);
});

test("wrong options are refused by name when the consumer is made", async (context) => {
  const db = context.use(await connect(context.url));
  const good = { id: "c", channels: "c", handle() {} };
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const wrong: [any, RegExp][] = [
    [{ polInterval: 1 }, /no option "polInterval".*Known options: .*pollInterval/],
    [{ id: "" }, /a consumer has no id/],
    [{ id: 7 }, /consumer id is 7/],
    [{ id: "x".repeat(201) }, /consumer id/],
    [{ id: "a\0b" }, /consumer id .* cannot store/],
    [{ channels: [] }, /at least one channel/],
    [{ channels: ["a", ""] }, /channel "" has no characters/],
    [{ channels: [7] }, /channel is 7/],
    [{ handle: "f" }, /handle is "f"/],
    [{ onError: 1 }, /onError is 1/],
    [{ retry: { first: 1 } }, /retry has no option "first"/],
    [{ retry: { initial: -1 } }, /retry.initial is -1/],
    [{ pageSize: 0 }, /pageSize is 0.*from 1 to 100000/],
    [{ pageSize: 1.5 }, /pageSize is 1.5/],
    [{ pageSize: "9" }, /pageSize is "9"/],
    [{ pageBytes: 0 }, /pageBytes is 0/],
    [{ pollInterval: 0 }, /pollInterval is 0/],
    [{ lease: 99 }, /lease is 99/],
    [{ stopTimeout: -1 }, /stopTimeout is -1/],
    [{ acknowledgeCount: 0 }, /acknowledgeCount is 0/],
    [{ acknowledgeInterval: NaN }, /acknowledgeInterval/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => new Consumer(db, { ...good, ...options }), { name: "HarkError", message });
  }
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  assert.throws(() => new Consumer({} as any, good), { code: "BAD_OPTION", message: /^db is/ });
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  await assert.rejects(new Consumer(db, good).run({ singal: 1 } as any), {
    code: "BAD_OPTION",
    message: /run has no option "singal"/,
  });
});

test("isReplay tells what was there before from what is published now", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 3);
  const open = await context.client();
  await open.query("begin; select hark.notify('c', '4')");
  const running = context.use(new Running(db, {}));
  await running.atLeast(3);
  await open.query("commit");
  await running.atLeast(4);
  await publish(context, 5, 6);
  await running.atLeast(6);
  assert.deepEqual(running.inbox.items.map((n) => [n.payload, n.isReplay]), [
    [1, true],
    [2, true],
    [3, true],
    [4, false], // drawn before, committed after
    [5, false],
    [6, false],
  ]);
});

test("isReplay stays what it was over a lost session", async (context) => {
  const db = context.use(await connect(context.url));
  await publish(context, 1, 2);
  let killed = false;
  const running = context.use(
    new Running(db, {
      pageSize: 1,
      handle: async () => {
        if (killed) return;
        killed = true;
        await publish(context, 3, 3);
        await context.sql(
          "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1",
          [context.appName],
        );
      },
    }),
  );
  await running.atLeast(3);
  assert.deepEqual(running.inbox.items.map((n) => n.isReplay), [true, true, false]);
});
