/** A dump restored into another cluster, where the stored transaction numbers mean nothing. */

import assert from "node:assert/strict";
import { type OwnServer, ownServer, test } from "../harness/mod.ts";
import { type Delivered, RegisteredReader } from "./_support/reader.ts";
import { needsDump, shell } from "./_support/shell.ts";
import { replaceIn } from "./_support/staging.ts";
import { difference } from "./_support/truth.ts";

/** Uses transaction numbers up, as any traffic does. */
async function burn(server: OwnServer, count: number): Promise<void> {
  await server.sql(
    `do $$ begin for n in 1..${count} loop perform pg_current_xact_id(); commit; end loop; end $$`,
  );
}

async function publish(server: OwnServer, count: number, what: string): Promise<void> {
  await server.sql("select hark.notify('c', to_jsonb($1::text)) from generate_series(1, $2)", [
    what,
    count,
  ]);
}

/** A dump of a database whose consumer is in the middle of a window. */
interface Dump {
  readonly file: string;
  /** What had been read before. */
  readonly read: readonly Delivered[];
}

async function dump(source: OwnServer): Promise<Dump> {
  await burn(source, 5_000);
  const client = await source.client();
  const reader = await RegisteredReader.open(client, "r", ["c"], { kind: "beginning" }, {
    rows: 30,
  });
  await publish(source, 100, "read before the dump");
  await reader.drain();
  await publish(source, 100, "read in part");
  await reader.step();
  await reader.step();
  await reader.release();
  const file = `${source.dataDir}/dump.sql`;
  await shell(source, `pg_dump -n hark -f ${file} "${source.url}"`);
  return { file, read: reader.delivered };
}

/** Reads what is left on a server that a dump was restored to. */
async function readOn(target: OwnServer): Promise<Delivered[]> {
  const client = await target.client();
  await client.query("select hark.rebase()");
  const reader = new RegisteredReader(client, "r");
  await reader.claim();
  await reader.drain();
  await publish(target, 10, "after");
  await reader.drain();
  return reader.delivered;
}

async function assertNothingLost(target: OwnServer, before: Dump): Promise<void> {
  const after = await readOn(target);
  const unread = after.filter(({ payload }) => payload === "before any reader");
  assert.equal(unread.length, 50, "all that was published before a reader came");
  const client = await target.client();
  // What was read before may have been removed there.
  const { missed } = await difference(client, [...before.read, ...after]);
  assert.deepEqual(missed, []);
  const { repeated, invented } = await difference(client, after);
  assert.deepEqual(invented, []);
  assert.deepEqual(repeated, [], "repeats are of what was read before, none of what is read here");
}

const cases = [
  {
    promise: "a restored database loses nothing, also of what is published before a reader comes",
    between: (target: OwnServer) => publish(target, 50, "before any reader"),
  },
  {
    promise: "it loses nothing when the new server's numbers have passed the old ones by then",
    between: async (target: OwnServer) => {
      await publish(target, 50, "before any reader");
      await burn(target, 10_000);
    },
    broken: {
      rule: "numbers are compared with no regard to when they were given out",
      in: "hark.rebase",
      from: "if upgraded and (",
      to: "if true and (",
    },
  },
  {
    promise: "cleaning there before any reader comes removes nothing unread",
    between: async (target: OwnServer) => {
      await publish(target, 50, "before any reader");
      await target.sql("select * from hark.clean(now() + interval '1 hour')");
    },
    broken: {
      rule: "cleaning trusts the stored positions",
      in: "hark.clean",
      from: "perform hark.rebase();",
      to: "",
    },
  },
];

async function restored(t: Deno.TestContext): Promise<void> {
  await using source = await ownServer();
  const dumped = await dump(source);
  for (const { promise, between, broken } of cases) {
    for (const rule of broken === undefined ? [undefined] : [undefined, broken]) {
      await using target = await ownServer({ schema: false });
      await t.step(
        rule === undefined ? promise : `${promise}: not so where ${rule.rule}`,
        async () => {
          await shell(
            target,
            `psql -q -v ON_ERROR_STOP=1 -f ${dumped.file} "${target.url}" > /dev/null`,
          );
          if (rule !== undefined) await replaceIn(target.url, rule);
          await between(target);
          const run = () => assertNothingLost(target, dumped);
          if (rule === undefined) await run();
          else await assert.rejects(run, assert.AssertionError);
        },
      );
    }
  }
}

Deno.test({ ...needsDump("after a dump and restore into another cluster"), fn: restored });

test("pg_upgrade, which keeps the numbers under a new identity, moves no position", async ({ sql, client }) => {
  const reader = await RegisteredReader.open(await client(), "r", ["c"]);
  await sql("select hark.notify('c') from generate_series(1, 10)");
  await reader.drain();
  // The files are copied: the row is the same row, and only the server is another.
  await sql(
    `do $$ begin
       update hark.install set system_identifier = 1;
       update hark.install i set written_by = i.xmin;
     end $$`,
  );
  for (let n = 0; n < 2; n++) {
    assert.deepEqual(await sql("select hark.rebase() as done"), [{ done: false }]);
  }
  await reader.restart();
  assert.deepEqual(await reader.drain(), []);
});
