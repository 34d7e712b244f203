/**
 * A database as an operator meets it: consumers that keep up, that fail, that are behind, paused or
 * without a worker; dead letters, delayed notifications, a schedule and a watched table.
 *
 * @module
 */

import { Consumer, type Database, notify, schedule, watch } from "../../../mod.ts";
import { pause } from "../../../src/operate/pause.ts";
import { until } from "../../harness/mod.ts";

/** A name that would do harm if a page took it for HTML. */
export const hostile = `<img src=x onerror="document.title='broken'">`;

/** What a scene is. */
export interface Scene extends AsyncDisposable {
  /** The id of a notification that fails, of one behind it, of a dead letter, and of an updated row. */
  readonly ids: {
    readonly failing: number;
    readonly behind: number;
    readonly dead: number;
    readonly change: number;
  };
}

/** Fills a database, and leaves consumers running until it is disposed of. */
export async function scene(db: Database): Promise<Scene> {
  await db.query("create table customers (id int primary key, name text, city text)");
  await watch(db, "customers", { channel: "customers" });
  await notify(db, "payments", { total: 17 });
  const consumers = [
    new Consumer(db, {
      id: "billing",
      channels: ["orders", "refunds"],
      partitions: 4,
      from: "beginning",
      handle() {},
    }),
    new Consumer(db, {
      id: "mail",
      channels: "orders",
      from: "beginning",
      maxAttempts: 5,
      retry: { initial: "30s" },
      handle({ payload }) {
        if ((payload as { city?: string }).city === "Bern") {
          throw new Error("smtp: connection refused");
        }
      },
    }),
    new Consumer(db, {
      id: "partner",
      channels: ["orders", hostile],
      from: "beginning",
      maxAttempts: 1,
      handle({ payload }) {
        const { id, city } = payload as { id: number; city: string };
        if (city === "Genf") throw new Error(`out of stock: order ${id}`);
        if (city === "Chur") throw new Error(`${hostile} said no to order ${id}`);
      },
    }),
    new Consumer(db, {
      id: "customers-search",
      channels: "customers",
      from: "beginning",
      handle() {},
    }),
  ];
  const runs = consumers.map((consumer) => consumer.run());
  const idle = [
    new Consumer(db, { id: "audit", channels: "orders", from: "beginning", handle() {} }),
    new Consumer(db, { id: "export", channels: "orders", from: "beginning", handle() {} }),
  ];
  for (const consumer of idle) await consumer.drain();
  await pause(db, "audit");
  const cities = ["Basel", "Bern", "Genf", "Chur", "Luzern", "Thun"];
  const ids: number[] = [];
  for (let n = 1; n <= 60; n++) {
    const city = cities[n % cities.length]!;
    ids.push(
      await notify(db, n % 10 === 0 ? "refunds" : "orders", {
        id: n,
        city,
        total: 10 * n,
        customer: { name: "Ada Lovelace", mail: "ada@example.org" },
      }, { key: `customer-${n % 7}`, headers: { source: "shop" } }),
    );
  }
  await notify(db, hostile, { id: 61, city: "Chur", note: hostile }, { key: hostile });
  await db.query("insert into customers values (1, 'Ada', 'Bern'), (2, 'Grace', 'Thun')");
  await db.query("update customers set city = 'Basel' where id = 1");
  await notify(db, "orders", { id: 99 }, { delay: "2h" });
  // What relays and an inbox leave in the database while their servers are away.
  await db.query("select hark.relay_place('billing', 0, 'SHOP at nats://10.0.0.7:4222', 0)");
  await db.query(
    "select hark.tell_trouble('relay', 'billing', 'no server answers at 10.0.0.7:4222')",
  );
  await db.query("select hark.keep_relay_endpoints('partner', $1::json, '{}')", [
    JSON.stringify([{
      ...{ endpoint: "acme", disabled: true, failing_ms: 7_200_000, failures: 4, wait_ms: 0 },
      ...{ status: 410, reason: "https://acme.example/hooks answered 410: it is gone" },
    }]),
  ]);
  await db.query("select hark.inbox_place('payments-in', 'PAYMENTS at nats://10.0.0.7:4222', 0)");
  await db.query(
    `select hark.inbox_take('payments-in', 'PAYMENTS at nats://10.0.0.7:4222', 0, 412, $1::json, 3)`,
    [JSON.stringify([408, 411].map((sequence) => ({
      sequence,
      subject: "payments.card",
      headers: {},
      body: btoa("<xml/>"),
      reason: "the body is no JSON: Unexpected token '<'",
    })))],
  );
  await schedule(db, "daily-report", "0 6 * * *", {
    channel: "reports",
    timezone: "Europe/Zurich",
  });
  const rows = async (text: string) => (await db.query(text)).rows;
  await until(async () => {
    const [found] = await rows(
      `select (select count(*) from hark.dead) as dead, (select count(*) from hark.waiting where consumer = 'mail') as waiting,
        (select sum(handled) from hark.partitions where consumer = 'billing') as handled`,
    );
    return Number(found.dead) >= 17 && Number(found.waiting) > 10 && Number(found.handled) >= 60;
  }, { deadline: 30_000 });
  const [found] = await rows(
    `select (select min(id) from hark.waiting where consumer = 'mail' and state = 'failed') as failing,
      (select min(b.id) from hark.waiting b join hark.waiting f using (consumer, key)
        where consumer = 'mail' and b.state = 'behind' and f.state = 'failed') as behind,
      (select min(id) from hark.dead) as dead,
      (select max(id) from hark.log where channel = 'customers') as change`,
  );
  return {
    ids: {
      failing: Number(found.failing),
      behind: Number(found.behind),
      dead: Number(found.dead),
      change: Number(found.change),
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(consumers.map((consumer) => consumer.stop()));
      await Promise.allSettled(runs);
    },
  };
}
