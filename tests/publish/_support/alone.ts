/** Publishes on a driver of its own, in a process without rights. */

import { HarkError, notify, notifyMany, type Queryable } from "../../../src/publish/mod.ts";

const sent: string[] = [];
const db: Queryable = {
  query: (text) => Promise.resolve({ rows: [{ id: sent.push(text) }] }),
};
await notify(db, "orders", { id: 42 }, { key: "order-42" });
await notifyMany(db, [{ channel: "orders", delay: "1m" }]);
const error = await notify(db, "").catch((error) => error);
console.log(sent[0]!.slice(0, 18), error instanceof HarkError && error.code);
