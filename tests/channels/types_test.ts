import assert from "node:assert/strict";
import {
  channel,
  Consumer,
  type Database,
  notify,
  notifyMany,
  on,
  schedule,
  subscribe,
  watched,
} from "../../mod.ts";
import { same } from "../changes/_support/typed.ts";
import { type Given, type Made, orders, OrderV1, OrderV2, second } from "./_support/orders.ts";

const refunded = channel("orders.refunded", OrderV1);
const plain = channel<{ id: number }>("plain");

/** Compiled and never called: what does not compile is what is promised. */
export function compiled(db: Database): void {
  void second.notify(db, { id: "1", total: 1, currency: "EUR" });
  // @ts-expect-error: no currency
  void second.notify(db, { id: "1", total: 1 });
  // @ts-expect-error: no currency
  void notify(db, second, { id: "1", total: 1 });
  // @ts-expect-error: the id is a number
  void plain.notify(db, { id: "1" });
  void notifyMany(db, [
    { channel: second, payload: { id: "1", total: 1, currency: "EUR" }, key: "1" },
    { channel: "plain", payload: [1] },
  ]);
  // @ts-expect-error: no currency
  void notifyMany(db, [{ channel: second, payload: { id: "1", total: 1 } }, { channel: "a" }]);
  // @ts-expect-error: no payload
  void notifyMany(db, [{ channel: plain }]);

  void schedule(db, "s", "0 3 * * *", {
    channel: second,
    payload: { id: "1", total: 1, currency: "EUR" },
  });
  // @ts-expect-error: no currency
  void schedule(db, "s", "0 3 * * *", { channel: second, payload: { id: "1", total: 1 } });
  void schedule(db, "s", "0 3 * * *", { channel: "plain", payload: [1] });

  channel("orders.paid", OrderV2).from(OrderV1, (old) => {
    same<typeof old, { id: string; total: number }>();
    return { ...old, currency: "EUR" };
  });
  // @ts-expect-error: the upgrade gives no currency
  channel("orders.paid", OrderV2).from(OrderV1, (old) => old);
  channel("orders.paid", OrderV2).from(OrderV1, (old) => ({ ...old, currency: "" }))
    // @ts-expect-error: this step must give the version after it, with its total
    .from(OrderV2, ({ id }) => ({ id }));
  // @ts-expect-error: a key that may be missing
  second.key((order: { id?: string }) => order.id);
  // @ts-expect-error: an order has no number
  second.key((order) => order.number);

  const handle = on(second, (order, notification) => {
    same<typeof order, { id: string; total: number; currency: string }>();
    same<typeof notification.payload, typeof order>();
  }).on(refunded, (order) => same<typeof order, { id: string; total: number }>());
  new Consumer(db, { id: "c", handle });
  new Consumer(db, { id: "c", channels: [second, refunded], handle });
  new Consumer(db, { id: "c", channels: [second, "plain"], handle: (n) => console.log(n.payload) });
  new Consumer(db, { id: "c", channels: [second, "plain"], handle: handle.otherwise("ignore") });
  new Consumer(db, {
    id: "c",
    channels: [second, refunded],
    handle: ({ payload }) =>
      same<
        typeof payload,
        { id: string; total: number; currency: string } | { id: string; total: number }
      >(),
  });
  new Consumer(db, {
    id: "c",
    channels: plain,
    handleBatch: (batch) => same<(typeof batch)[number]["payload"], { id: number }>(),
    onDeadLetter: (_, { payload }) => same<typeof payload, { id: number }>(),
  });
  // @ts-expect-error: no such field
  new Consumer(db, { id: "c", channels: [plain], handle: ({ payload }) => payload.nope });
  new Consumer<{ nope: 1 }>(db, { id: "c", channels: plain, handle: (n) => n.payload.nope });
  // @ts-expect-error: refunded has no handler
  new Consumer(db, { id: "c", channels: [second, refunded], handle: on(second, () => {}) });
  // @ts-expect-error: plain has no handler
  new Consumer(db, { id: "c", channels: [second, refunded, "plain"], handle });
  // @ts-expect-error: a channel whose name the compiler does not know has no handler
  new Consumer(db, { id: "c", channels: [second, plain], handle });
  new Consumer(db, {
    id: "c",
    channels: [second, "plain"],
    handle: on("plain", () => {}).on(second, () => {}),
  });
  new Consumer(db, {
    id: "c",
    channels: "events",
    handle: on("order.paid", (order, n) => console.log(order.id, n.id), {
      by: (n) => n.payload.name,
    }),
  });
  on(
    "order.paid",
    (order) => same<typeof order, { id: string; total: number; currency: string }>(),
    {
      channel: second,
      by: (n) => n.payload.currency,
    },
  );
  // @ts-expect-error: a batch is not handled by a table of single handlers
  new Consumer(db, { id: "c", channels: second, handleBatch: handle });

  for (const one of Object.values(orders)) {
    void notify(db, one, {} as Given);
  }
  on(orders.zod, (order) => same<typeof order, Made>());
  on(orders.valibot, (order) => same<typeof order, Made>());
  on(orders.arktype, (order) => same<typeof order, Made>());
  void (async () => {
    for await (const { payload } of subscribe(db, second)) {
      same<typeof payload, { id: string; total: number; currency: string }>();
    }
    for await (const { payload } of subscribe(db, [orders.zod, refunded])) {
      same<typeof payload, Made | { id: string; total: number }>();
    }
  });
  void subscribe<{ id: number }>(db, ["a", second]);
  void watched;
}

Deno.test("a wrong payload, a missing handler and a wrong step between versions do not compile", () => {
  // deno test has compiled it, with each line that must not compile marked.
  assert.equal(typeof compiled, "function");
});
