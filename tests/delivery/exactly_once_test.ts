import assert from "node:assert/strict";
import { type OwnServer, ownServer, until } from "../harness/mod.ts";
import { Chaos, seconds, seed, settled, told } from "./_support/chaos.ts";
import { Fleet } from "./_support/fleet.ts";
import { committed, Publishers, publishersSql } from "./_support/publishers.ts";

const lease = 2000;

/** No primary key: a second row would be seen rather than refused. */
const resultsSql = `create table results (
  number bigint generated always as identity, consumer text, id bigint, key text, payload jsonb,
  worker integer, attempt integer, at timestamptz default clock_timestamp()
)`;

Deno.test("whatever befalls workers and server, a transactional handler's writes are there exactly once", async () => {
  const chance = seed();
  await using server = await ownServer({ settings: { max_connections: "200" } });
  await server.sql(publishersSql);
  await server.sql(resultsSql);
  await using fleet = new Fleet(server.url);
  const consumers = ["one", "two", "three"];
  for (const [n, id] of consumers.entries()) {
    for (let worker = 0; worker < 2; worker++) {
      fleet.start({
        options: {
          id,
          lease,
          transactional: true,
          partitions: 4,
          concurrency: 1 + n,
          readAhead: 200,
          acknowledgeCount: 50,
          acknowledgeInterval: 100,
          retry: { initial: 50, maximum: 500 },
        },
        table: "results",
        work: 2,
        flaky: 0.01,
      });
    }
  }
  await using publishers = new Publishers(server.url, { seed: chance, publishers: 2 });
  const chaos = new Chaos(server, fleet, lease, chance);
  await told(fleet, chaos, chance, async () => {
    for (const id of consumers) {
      await until(async () => (await resultsOf(server, id)) > 20, { what: `${id} to be at work` });
    }
    await chaos.run(seconds() * 1000);
    await publishers.stop();
    const { length } = await committed(server);
    for (const id of consumers) {
      await until(async () => (await resultsOf(server, id)) >= length, { deadline: 40_000 })
        .catch(() => {}); // the verdict below says it better
      await assertExactlyOnce(server, id);
    }
    await settled(server);
    fleet.assertRunning();
    await fleet.stop();
    for (const id of consumers) await assertExactlyOnce(server, id);
    assert.deepEqual(await server.sql("select * from hark.dead"), [], "no worker gave anything up");
    if (Deno.env.has("HARK_LEDGER_SECONDS")) {
      console.log(`${length} notifications, exactly once each, ${chaos.log.length} faults`);
    }
  });
});

/** How many notifications a consumer has written. */
async function resultsOf(server: OwnServer, consumer: string): Promise<number> {
  const [row] = await server.sql(
    "select count(distinct id)::int as count from results where consumer = $1",
    [consumer],
  );
  return row.count;
}

/** One row for each that was committed, none for others, each key in order. */
async function assertExactlyOnce(server: OwnServer, consumer: string): Promise<void> {
  const wrong = await server.sql(
    `select l.id, l.key, count(r.id)::int as rows, array_agg(r.id) as seen,
        array_agg(format('%s attempt %s at %s', r.worker, r.attempt, to_char(r.at, 'SS.MS'))) as written
      from hark.log l full join (select * from results where consumer = $1) r on r.id = l.id
      group by l.id, l.key having count(r.id) <> 1 or l.id is null order by l.id limit 5`,
    [consumer],
  );
  assert.deepEqual(wrong, [], `${consumer} has not written exactly one row for each`);
  // Around each one that came late: what was written of its key, in that order.
  const overtaken = await server.sql(
    `with r as (
      select key, id::int, number::int, worker, attempt, to_char(at, 'SS.MS') as at,
        lag(id) over (partition by key order by number) > id as late
      from results where consumer = $1 and key is not null
    )
    select o.key, o.id, o.worker, o.attempt, o.at, o.late from r o
    where exists (select from r where r.late and r.key = o.key and abs(r.id - o.id) < 60)
    order by o.key, o.number limit 20`,
    [consumer],
  );
  assert.deepEqual(overtaken, [], `${consumer} wrote a key out of order`);
}
