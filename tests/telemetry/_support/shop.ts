/**
 * A program with telemetry: it does what its argument says, on DATABASE_URL.
 *
 * @module
 */

// @ts-types="npm:@types/pg@8.23.1"
import pg from "pg";
import { trace } from "@opentelemetry/api";
import {
  cleanup,
  connect,
  Consumer,
  DeadLetter,
  migrate,
  notify,
  notifyMany,
  setContext,
} from "../../../mod.ts";
import { telemetry } from "../../../src/otel/mod.ts";

const url = Deno.env.get("DATABASE_URL")!;
const [scene = "", options = "{}"] = Deno.args;
telemetry(JSON.parse(options));
await using db = await connect(url);
const tracer = trace.getTracer("shop");

/** Does something in a span of the program's own. */
async function within<T>(name: string, work: () => Promise<T>): Promise<T> {
  return await tracer.startActiveSpan(name, async (span) => {
    try {
      return await work();
    } finally {
      span.end();
    }
  });
}

/** What the program can do, by name. */
const scenes: Readonly<Record<string, () => Promise<void>>> = {
  /** Publishes in several ways, and handles it: once well, once with a retry, once in vain. */
  async trade() {
    await within("checkout", async () => {
      await notify(db, "orders", { secret: "payload-of-1" }, { key: "order-1" });
    });
    await notify(db, "orders", {}, { headers: { traceparent: own, shop: 7 } });
    await notify(db, "retried", { secret: "payload-of-3" }, { headers: {} });
    await notify(db, "hopeless", {});
    const billing = new Consumer(db, {
      id: "billing",
      channels: ["orders", "retried", "hopeless"],
      retry: () => 1,
      async handle({ channel, attempt }) {
        await within("charge", async () => {
          if (channel === "orders") await notify(db, "receipts", {});
        });
        if (channel === "retried" && attempt === 1) throw new TypeError("payload-of-3 is wrong");
        if (channel === "hopeless") throw new DeadLetter("never");
      },
    });
    await billing.drain();
  },
  /** Publishes a batch, and handles it as one. */
  async batch() {
    await within("import", async () => {
      await notifyMany(db, [
        { channel: "orders", payload: 1, key: 1 },
        { channel: "orders", payload: 2, headers: { traceparent: own } },
        { channel: "refunds", payload: 3 },
      ]);
    });
    const billing = new Consumer(db, {
      id: "billing",
      channels: ["orders", "refunds"],
      batchSize: 10,
      handleBatch: () => {},
    });
    await billing.drain();
  },
  /** Changes a watched table and publishes, on connections of another driver. */
  async foreign() {
    const pool = new pg.Pool({ connectionString: url });
    const client = await pool.connect();
    await within("rename", async () => {
      await client.query("begin");
      await setContext(client, { userId: 7 });
      await client.query("insert into customers values (1, 'Ada')");
      await client.query("commit");
    });
    client.release();
    await within("refund", async () => {
      await notify(pool, "refunds", {});
    });
    await pool.end();
    await new Consumer(db, {
      id: "search",
      channels: ["customers", "refunds"],
      handle: () => {},
    }).drain();
  },
  /** Installs the schema, and cleans. */
  async upkeep() {
    await within("deploy", async () => {
      await migrate(db);
      await migrate(db); // changes nothing
      await cleanup(db, { olderThan: "30d" });
    });
  },
  /** Serves until SIGTERM. The one named "killed" never ends what it handles. */
  async serve() {
    const name = Deno.env.get("HARK_SHOP");
    const billing = new Consumer(db, {
      id: "billing",
      channels: "orders",
      async handle() {
        console.log("handling");
        if (name === "killed") await new Promise(() => {});
        console.log("handled");
      },
    });
    const stop = new AbortController();
    Deno.addSignalListener("SIGTERM", () => stop.abort());
    const running = billing.run({ signal: stop.signal });
    await billing.ready;
    console.log("ready");
    await running;
  },
};

/** A trace that a caller names itself. */
const own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

await scenes[scene]!();
console.log("done");
