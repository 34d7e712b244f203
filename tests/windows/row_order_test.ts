/** Transactions that wait for each other's row locks are read in the order in which they got them. */

import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { type Delivered, RegisteredReader, UnregisteredReader } from "./_support/reader.ts";
import { type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

const WRITERS = 8;
const TRANSACTIONS = 1_000;
const KEYS = 4;

/** Fails unless each key's versions come as 1, 2, 3 and so on. */
function assertInOrder(delivered: readonly Delivered[]): void {
  const at = new Map<string, number>();
  for (const { key, payload } of delivered) {
    assert.equal(payload, (at.get(key!) ?? 0) + 1, `of key ${key}`);
    at.set(key!, payload);
  }
}

const publishVersion = (key: number) =>
  `with updated as (update versioned set version = version + 1 where key = ${key} returning version)
   select hark.notify('v', to_jsonb(version), '${key}') from updated;`;

test(
  "1,000 transactions that update the same rows are read in the order of the versions they made",
  {
    timeout: 60_000,
  },
  async ({ sql, client, admin }) => {
    await sql("create table versioned (key integer primary key, version integer not null)");
    await sql("insert into versioned select k, 0 from generate_series(0, $1) k", [KEYS - 1]);
    const readers = [
      await RegisteredReader.open(await client(), "r", ["v"]),
      await RegisteredReader.open(await client(), "pages", ["v"], undefined, { rows: 7 }),
      await UnregisteredReader.open(await client(), ["v"]),
    ];
    let writing = true;
    let left = TRANSACTIONS;
    const reading = readers.map(async (reader) => {
      while (writing) await reader.step();
      await reader.drain();
    });
    await Promise.all(Array.from({ length: WRITERS }, async () => {
      const writer = await client();
      while (left-- > 0) {
        const [early, inside, after] = [Math.random(), Math.random(), Math.random()];
        await writer.query([
          "begin;",
          early < 0.5 ? `select pg_current_xact_id(), pg_sleep(${early * 0.006});` : "",
          inside < 0.3 ? "savepoint a;" : "",
          publishVersion(Math.floor(Math.random() * KEYS)),
          inside < 0.15 ? "rollback to savepoint a;" : "",
          `select pg_sleep(${after * 0.003});`,
          after < 0.05 ? "rollback;" : "commit;",
        ].join(" "));
      }
    }));
    writing = false;
    await Promise.all(reading);
    for (const { delivered } of readers) {
      await assertExactlyOnce(admin, delivered);
      assertInOrder(delivered);
    }
  },
);

const olderNumberLaterVersion: Staging = {
  promise: "who waited for a row's lock is read after who held it, though its number is older",
  breaks: [{
    rule: "when a window is read by transaction number",
    in: "hark.page",
    from: "order by s.id\n          limit max_rows",
    to: "order by s.xid, s.id\n        limit max_rows",
  }],
  stage: async (lab) => {
    await lab.sql("create table versioned (key integer primary key, version integer not null)");
    await lab.sql("insert into versioned values (1, 0)");
    const reader = await RegisteredReader.open(await lab.client(), "r", ["v"]);
    const [waits, holds] = [await lab.writer(), await lab.writer()];
    await waits.number();
    await holds.client.query(publishVersion(1));
    const waiting = waits.client.query(publishVersion(1));
    await holds.commit();
    await waiting;
    await waits.commit();
    await reader.drain();
    assertInOrder(reader.delivered);
    assert.equal(reader.delivered.length, 2);
  },
};

stagings("row locks decide the order", [olderNumberLaterVersion]);
