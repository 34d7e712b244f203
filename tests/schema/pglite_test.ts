/** Hark on PGlite, one session within the program. It takes seconds to begin: one test, a step a promise. */

import assert from "node:assert/strict";
import { PGlite } from "npm:@electric-sql/pglite@0.5.16";
import {
  Consumer,
  type ConsumerOptions,
  migrate,
  type Notification,
  notify,
  notifyMany,
  type Queryable,
  requireSchema,
  schemaVersion,
  subscribe,
  uninstall,
} from "../../mod.ts";
import { watchedBy } from "../changes/_support/any_driver.ts";
import { numbers } from "../faults/_support/running.ts";
import { within } from "../harness/mod.ts";
import { both, drained } from "../publish/_support/any_driver.ts";

/** Drains, and gives the count and the payloads. */
async function drainedOn(
  db: Queryable,
  options: Partial<ConsumerOptions> = {},
): Promise<[number, unknown[]]> {
  const seen: unknown[] = [];
  const consumer = new Consumer(db, {
    id: "d",
    channels: "c",
    ...options,
    handle: (n) => void seen.push(n.payload),
  });
  return [await within(consumer.drain()), seen];
}

Deno.test("Hark does all it does on PGlite", async (t) => {
  const lite = await PGlite.create();
  /** Each promise on a schema of its own. */
  const step = async (name: string, run: () => Promise<void>) => {
    await t.step(name, run);
    await lite.exec(
      "drop schema if exists hark cascade; drop schema public cascade; create schema public",
    );
    await lite.query("discard all");
    await migrate(lite);
  };
  try {
    await step("migrate() installs in PGlite, once", async () => {
      assert.deepEqual(await migrate(lite), {
        from: undefined,
        to: schemaVersion,
        changed: true,
      });
      assert.deepEqual(await migrate(lite), {
        from: schemaVersion,
        to: schemaVersion,
        changed: false,
      });
      await requireSchema(lite);
      await uninstall(lite);
      await lite.transaction(async (tx) => void await migrate(tx));
      await notify(lite, "c", 1);
    });
    await step("PGlite and its transactions publish", async () => {
      await both(lite, 1);
      await lite.transaction((tx) => both(tx, 4));
      await lite.transaction(async (tx) => {
        await both(tx, 100);
        await tx.rollback();
      });
      await assert.rejects(lite.transaction(async (tx) => {
        await both(tx, 200);
        throw new Error("no");
      }));
      assert.deepEqual(await drained(lite), numbers(1, 6));
    });
    await step("PGlite delays and delivers too", async () => {
      await migrate(lite);
      const now = Date.now();
      await notify(lite, "c", 2, { deliverAt: new Date(now + 150) });
      await notify(lite, "c", 1, { deliverAt: new Date(now + 20) });
      const seen: unknown[] = [];
      for await (const n of subscribe(lite, "c", { from: "beginning" })) {
        if (seen.push(n.payload) === 2) break;
      }
      assert.deepEqual(seen, [1, 2]);
    });
    await step("subscribe() reads PGlite", async () => {
      await notify(lite, "c", 1);
      const seen: Notification[] = [];
      for await (const n of subscribe(lite, "c", { from: "beginning", pollInterval: 10 })) {
        seen.push(n);
        if (n.payload === 3) break;
        await notify(lite, "c", n.payload + 1);
      }
      assert.deepEqual(seen.map((n) => [n.payload, n.isReplay]), [[1, true], [2, false], [
        3,
        false,
      ]]);
    });
    await step("drain() works on PGlite, and run() polls there", async () => {
      assert.deepEqual(await drainedOn(lite), [0, []]);
      await notifyMany(lite, numbers(1, 100).map((payload) => ({ channel: "c", payload })));
      assert.deepEqual(await drainedOn(lite, { pageSize: 9 }), [100, numbers(1, 100)]);
      await notify(lite, "c", 101);
      const seen: unknown[] = [];
      const consumer: Consumer = new Consumer(lite, {
        id: "d",
        channels: "c",
        pollInterval: 20,
        handle: async (n) => {
          seen.push(n.payload);
          if (n.payload === 103) void consumer.stop();
          else await notify(lite, "c", n.payload + 1);
        },
      });
      await within(consumer.run(), { deadline: 20_000 });
      assert.deepEqual(seen, [101, 102, 103]);
      assert.deepEqual(await drainedOn(lite), [0, []]);
    });
    await step(
      "a transactional handler that uses the database itself fails, and says so",
      async () => {
        await lite.query("create table bills (id integer)");
        await notify(lite, "c", 1);
        const wrong: Record<string, () => Promise<unknown>> = {
          query: () => lite.query("insert into bills values (1)"),
          sql: () => lite.sql`select 1`,
          exec: () => lite.exec("select 1"),
          transaction: () => lite.transaction((tx) => tx.query("select 1")),
          notify: () => notify(lite, "c", 2),
          "query after another await": async () => {
            await new Promise((resolve) => setTimeout(resolve, 1));
            await lite.query("insert into bills values (1)");
          },
        };
        const errors: string[] = [];
        for (const [name, use] of Object.entries(wrong)) {
          for (const batch of [false, true]) {
            const options: ConsumerOptions = {
              id: `${name} ${batch}`,
              channels: "c",
              transactional: true,
              maxAttempts: 1,
              onDeadLetter: (error) => void errors.push(String(error)),
            };
            const consumer = new Consumer(
              lite,
              batch
                ? { ...options, handleBatch: async () => void await use() }
                : { ...options, handle: async () => void await use() },
            );
            assert.equal(await within(consumer.drain(), { deadline: 5000, what: name }), 0, name);
          }
        }
        assert.equal(errors.length, 2 * Object.keys(wrong).length);
        for (const error of errors) assert.match(error, /one session.*Use context\.tx/);
        const right = new Consumer(lite, {
          id: "right",
          channels: "c",
          transactional: true,
          handle: async (_, { tx }) => {
            await tx.query("insert into bills values (2)");
            await notify(tx, "d", 1);
          },
        });
        assert.equal(await right.drain(), 1);
        const { rows } = await lite.query("select id from bills");
        assert.deepEqual(rows, [{ id: 2 }], "and nothing of what failed was written");
      },
    );
    await step("timeout ends a transactional handler that waits for ever", async () => {
      await notify(lite, "c", 1);
      const errors: string[] = [];
      const consumer = new Consumer(lite, {
        id: "waits",
        channels: "c",
        transactional: true,
        timeout: 50,
        maxAttempts: 1,
        onDeadLetter: (error) => void errors.push(String(error)),
        handle: () => new Promise(() => {}),
      });
      assert.equal(await within(consumer.drain(), { deadline: 5000 }), 0);
      assert.match(errors[0]!, /took longer than 50 ms/);
    });
    await step("watches a table", async () => {
      await lite.query("create table users (id integer primary key, email text)");
      await lite.query("insert into users values (1, 'a')");
      await watchedBy(lite);
    });
  } finally {
    await lite.close();
  }
});
