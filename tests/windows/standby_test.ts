/** A standby's snapshots list no running transactions, so nothing may be read by them. */

import assert from "node:assert/strict";
import {
  type Client,
  connect,
  disconnect,
  type OwnServer,
  ownServer,
  until,
} from "../harness/mod.ts";
import { type Standby, standbyOf } from "../faults/_support/standby.ts";
import { cut, RegisteredReader, UnregisteredReader } from "./_support/reader.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

async function onStandby(t: Deno.TestContext, primary: OwnServer, standby: Standby): Promise<void> {
  const clients: Client[] = [];
  const client = async (url: string) => {
    const client = await connect(url);
    clients.push(client);
    return client;
  };
  try {
    const reader = await RegisteredReader.open(await client(primary.url), "r", ["c"]);
    await t.step("every way to read there is refused, and the log can be looked at", async () => {
      const there = await client(standby.url);
      await until(async () => (await there.query("select from hark.consumers")).rows.length === 1);
      for (
        const call of [
          "hark.cut()",
          "hark.start_position('now', null, null)",
          "hark.register('other', '{c}')",
        ]
      ) {
        await assert.rejects(
          there.query(`select ${call}`),
          { code: "HK003", hint: /primary/ },
          call,
        );
      }
      assert.equal((await there.query("select hark.rebase() as done")).rows[0].done, false);
      assert.equal((await there.query("select * from hark.status()")).rows.length, 1);
    });
    await t.step(
      "after it is promoted the stored position loses nothing, and a mark that it did not get is refused",
      async () => {
        await primary.sql("select hark.notify('c') from generate_series(1, 20)");
        await reader.page();
        const there = await client(standby.url);
        await until(async () =>
          Number((await there.query("select count(*) from hark.log")).rows[0].count) === 20
        );
        await there.query("select pg_promote()");
        await until(async () =>
          !(await there.query("select pg_is_in_recovery() as is")).rows[0].is
        );
        // What the old primary cuts from here on never gets there.
        await primary.sql("select hark.notify('c')");
        const lost = await cut(reader.client);
        await there.query("select hark.notify('c', '\"new\"')");
        await assert.rejects(
          there.query(
            "select * from hark.page($1::hark.marks, $1::hark.marks, null, 0, null, 10, 1000, 1000, null)",
            [lost],
          ),
          { code: "HK004" },
        );
        const { rows: [{ mark }] } = await there.query(
          "select hark.content_of(hark.resume_mark($1::hark.marks)) as mark",
          [lost],
        );
        const goesOn = new UnregisteredReader(there, ["c"]);
        goesOn.position = { seen: mark, target: null, lastId: null, afterId: 0 };
        await goesOn.drain();
        assert.equal(goesOn.delivered.at(-1)!.payload, "new");
        const again = new RegisteredReader(there, "r");
        again.owner = reader.owner;
        await again.claim();
        await again.drain();
        await assertExactlyOnce(there, again.delivered);
        assert.equal(again.delivered.length, 21);
      },
    );
  } finally {
    await Promise.all(clients.map(disconnect));
  }
}

Deno.test("on a standby", async (t) => {
  await using primary = await ownServer();
  await using standby = await standbyOf(primary);
  await onStandby(t, primary, standby);
});
