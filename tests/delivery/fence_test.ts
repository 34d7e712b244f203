/** Who was replaced stores nothing, also where that happens while it waits for its turn. */

import assert from "node:assert/strict";
import { connect as open, disconnect, test, type TestContext, waitsFor } from "../harness/mod.ts";

const worker = "11111111-1111-1111-1111-111111111111";
const other = "22222222-2222-2222-2222-222222222222";
const acknowledging =
  `select hark.acknowledge('c', '${worker}', array[0, 1, 2], array[1, 1, 1]::bigint[],
  '{}'::hark.marks[], n.one, n.one, n.one, n.one, array[5, 5, 5]::bigint[], array_fill(false, array[3]))
  from (select array_fill(null::bigint, array[3]) as one) n`;

/** A worker that holds three partitions waits for `change`, made in a transaction that commits then, to acknowledge. */
async function beside({ url, sql }: TestContext, change: string) {
  await sql("select hark.register('c', array['a'], partitions => 3)");
  for (const owner of [worker, other]) {
    await sql(
      `select * from hark.heartbeat($1, null, 60000, true, null, '{c}', array[$1::uuid], '{null}',
        '[{"channels": ["a"], "filter": null, "transactional": false}]')`,
      [owner],
    );
  }
  await sql("select * from hark.claim('c', '{0,1,2}', $1, false)", [worker]);
  const client = await open(url);
  try {
    await client.query("begin");
    await client.query(change);
    const acknowledged = sql(acknowledging);
    acknowledged.catch(() => {});
    await waitsFor(client, "hark.acknowledge(");
    await client.query("commit");
    return { acknowledged };
  } finally {
    await disconnect(client);
  }
}

const handled = async ({ sql }: TestContext) =>
  (await sql("select handled::integer from hark.partitions order by partition"))
    .map((row) => row.handled);

test("an acknowledgement that waited for a claim of another worker is refused as a whole", async (context) => {
  const { acknowledged } = await beside(
    context,
    `update hark.partitions set epoch = epoch + 1, owner = '${other}' where partition = 1`,
  );
  await assert.rejects(acknowledged, { code: "HK005" });
  assert.deepEqual(await handled(context), [0, 0, 0]);
});

test("one that waited for what changes nothing of whose they are is stored", async (context) => {
  const { acknowledged } = await beside(
    context,
    "update hark.partitions set served_at = clock_timestamp() where partition = 1",
  );
  assert.equal((await acknowledged).length, 1);
  assert.deepEqual(await handled(context), [5, 5, 5]);
});

test("an outcome of an unknown kind is refused, as nothing would become of its notification", async ({ sql }) => {
  await sql("select hark.register('c', array['c'])");
  for (const kind of [null, "done", "Wait"]) {
    await assert.rejects(
      sql(
        "select hark.settle('c', json_build_array(json_build_object('kind', $1::text, 'id', 7)))",
        [
          kind,
        ],
      ),
      { code: "HK006", message: /^the outcome of notification 7 is of kind / },
    );
  }
});

/** What became of the parts of workers that acknowledge together, each of one partition. */
async function together({ sql }: TestContext, parts: [consumer: string, epoch: number][]) {
  const json = parts.map(([consumer, epoch]) => [
    consumer,
    worker,
    "{0}",
    `{${epoch}}`,
    "[]",
    "",
    "",
    "",
    "",
    "{5}",
    "{f}",
    null,
  ]);
  const rows = await sql("select n, state from hark.acknowledge_all($1::json) order by n", [
    JSON.stringify(json),
  ]);
  return rows.map((row) => row.state);
}

test("of workers that acknowledge together, what is refused or locked for one does not count for the others", async (context) => {
  const { sql, client } = context;
  const names = ["a", "b", "c", "d"];
  for (const name of names) {
    await sql("select hark.register($1, array['a'])", [name]);
    await sql(
      `select * from hark.heartbeat($1, null, 60000, true, null, array[$2], array[$1::uuid], '{null}',
        '[{"channels": ["a"], "filter": null, "transactional": false}]')`,
      [worker, name],
    );
    await sql("select * from hark.claim($1, '{0}', $2, false)", [name, worker]);
  }
  const holder = await client();
  await holder.query("begin");
  // As a handler's transaction does that does not commit.
  await holder.query("select from hark.partitions where consumer = 'b' for share");
  const states = await together(context, [["d", 1], ["c", 7], ["b", 1], ["a", 1]]);
  assert.deepEqual(states, [null, "HK005", "55P03", null]);
  const rows = await sql("select handled::integer from hark.partitions order by consumer");
  assert.deepEqual(rows.map((row) => row.handled), [5, 0, 0, 5]);
  await holder.query("rollback");
  assert.deepEqual(await together(context, [["b", 1]]), [null]);
});
