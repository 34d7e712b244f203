/** A transactional handler that catches an error of the server. */

import assert from "node:assert/strict";
import { PGlite } from "npm:@electric-sql/pglite@0.5.16";
import { connect, Consumer, deadLetters, migrate, notify, type Queryable } from "../../mod.ts";
import { test } from "../harness/mod.ts";

async function swallow(db: Queryable): Promise<void> {
  await db.query("create table seen (id int primary key)");
  await notify(db, "c", 1);
  const consumer = new Consumer(db, {
    id: "c",
    channels: "c",
    transactional: true,
    maxAttempts: 1,
    async handle(_, { tx }) {
      await tx!.query("insert into seen values (1), (1)").catch(() => {});
    },
  });
  assert.equal(await consumer.drain(), 0);
  const [dead] = await deadLetters(db);
  assert.match(
    dead!.error!,
    /rolled back: .* its error was caught \(.*duplicate key.* Throw that error on, or .* savepoint\.$/,
  );
}

test("a handler whose transaction failed for an error that it caught is told the error, and what to do", async ({ url, use }) => {
  await swallow(use(await connect(url)));
});

test("it is told so on a driver with transactions of its own", async () => {
  await using db = await PGlite.create();
  await migrate(db);
  await swallow(db);
});
