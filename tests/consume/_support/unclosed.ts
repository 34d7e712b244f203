/**
 * Publishes and drains, and closes nothing: a script as many write it.
 *
 * @module
 */

import { connect, Consumer, notify } from "../../../mod.ts";

const db = await connect(Deno.args[0]);
await notify(db, "orders", { id: 42 });
// Each of the pool's connections has been in use.
await Promise.all(Array.from({ length: 4 }, () => db.query("select pg_sleep(0.1)")));
for (const transactional of [false, true]) {
  const id = transactional ? "exact" : "plain";
  const consumer = new Consumer(db, { id, channels: "orders", transactional, handle() {} });
  console.log(id, await consumer.drain());
}
// Also one that has been idle is waited for when it is in use again.
console.log((await db.query("select pg_sleep(0.2), 'over' as word")).rows[0].word);
