/** How partitions are shared among workers, as SQL alone. */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { type Client, type Row, test, type TestContext, until, waitsFor } from "../harness/mod.ts";

/** A worker that attends, claims and releases as it is told. */
class Hand {
  readonly owner = crypto.randomUUID();
  readonly #consumer: string;
  readonly #sql: TestContext["sql"];
  readonly session: string | null;

  constructor(sql: TestContext["sql"], consumer = "c", session: string | null = null) {
    this.#sql = sql;
    this.#consumer = consumer;
    this.session = session;
  }

  async attend(renew = true, channels = ["c"], filter: string | null = null): Promise<Row> {
    const [row] = await this.#sql(
      `select h.* from (select hark.turn_partitions($1)) t, hark.heartbeat($2, $3, 15000, $4, null, array[$1::text],
        array[$2::uuid], '{null}', json_build_array(json_build_object('channels', $5::text[], 'filter', $6::json,
        'transactional', false))) h`,
      [this.#consumer, this.owner, this.session, renew, channels, filter],
    );
    return row;
  }

  async claim(wanted: readonly number[], presumeGone = false): Promise<Row[]> {
    return await this.#sql("select * from hark.claim($1, $2, $3, $4) order by partition", [
      this.#consumer,
      wanted,
      this.owner,
      presumeGone,
    ]);
  }

  async release(held: readonly number[], epochs: readonly unknown[]): Promise<number> {
    const [row] = await this.#sql("select hark.release($1, $2, $3, $4) as released", [
      this.#consumer,
      this.owner,
      held,
      epochs,
    ]);
    return row.released;
  }

  /** Does what it is told: gives back what is over its share, takes what is free. */
  async comply(): Promise<Row> {
    const told = await this.attend();
    assert.equal(told.outcome, "serve");
    const over = told.mine.length - told.share;
    if (over > 0) {
      assert.equal(await this.release(told.mine.slice(-over), told.epochs.slice(-over)), over);
    } else await this.claim(told.free.slice(0, -over));
    return await this.attend(false);
  }

  /** Gives everything back, and goes. */
  async leave(): Promise<void> {
    const { mine, epochs } = await this.attend(false);
    assert.equal(await this.release(mine, epochs), mine.length);
    await this.#sql("select hark.leave($1, $2)", [this.#consumer, this.owner]);
  }

  /** Its process ends without a word, and its lease runs out. */
  async expire(): Promise<void> {
    await this.#sql(
      "update hark.processes set lease_until = clock_timestamp() - interval '1 ms' where id = $1",
      [this.owner],
    );
  }
}

async function register(sql: TestContext["sql"], partitions: number, consumer = "c") {
  await sql("select hark.register($1, array['c'], partitions => $2)", [consumer, partitions]);
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

type Step = { readonly what: "join" | "attend" | "leave" | "expire"; readonly at: number };
const steps = fc.array(
  fc.record({
    what: fc.constantFrom<Step["what"][]>(
      "join",
      "join",
      "join",
      "attend",
      "attend",
      "leave",
      "expire",
    ),
    at: fc.nat(7),
  }),
  { maxLength: 25, size: "max" },
);

test("however workers join, leave and end, they soon share all partitions evenly", async ({ sql }) => {
  let runs = 0;
  const share = async (partitions: number, steps: readonly Step[]) => {
    const consumer = `c${++runs}`;
    await register(sql, partitions, consumer);
    const hands: Hand[] = [];
    for (const { what, at } of steps) {
      const index = at % Math.max(1, hands.length);
      if (what === "join" && hands.length < 8) {
        const hand = new Hand(sql, consumer);
        hands.push(hand);
        await hand.comply();
      } else if (hands.length === 0) continue;
      else if (what === "attend") await hands[index]!.comply();
      else if (what === "leave") await hands.splice(index, 1)[0]!.leave();
      else if (what === "expire") await hands.splice(index, 1)[0]!.expire();
    }
    if (hands.length === 0) hands.push(new Hand(sql, consumer));
    // Once to be known, once to give back, once to take.
    for (const hand of hands) await hand.attend();
    for (const hand of hands) await hand.comply();
    for (const hand of hands) await hand.comply();
    const told = await Promise.all(hands.map((hand) => hand.attend(false)));
    const shares = told.map((row) => row.share);
    assert.equal(shares.reduce((a, b) => a + b, 0), partitions, `shares ${shares}`);
    assert(Math.max(...shares) - Math.min(...shares) <= 1, `shares ${shares}`);
    assert.deepEqual(told.map((row) => row.mine.length), shares);
    assert.deepEqual(told.flatMap((row) => row.mine).sort((a, b) => a - b), numbers(partitions));
    for (const row of told) {
      assert.deepEqual([row.workers, row.free, row.gone], [hands.length, [], []]);
    }
    await sql("delete from hark.consumers");
  };
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 32 }), steps, share),
    { numRuns: 60, interruptAfterTimeLimit: 30_000, markInterruptAsFailure: false },
  );
});

test("what a worker whose lease has run out held is free; what a live one holds is not", async ({ sql }) => {
  await register(sql, 4);
  const [first, second] = [new Hand(sql), new Hand(sql)];
  await first.attend();
  assert.equal((await first.claim([0, 1, 2, 3])).length, 4);
  let told = await second.attend();
  assert.deepEqual([told.share, told.workers, told.free, told.gone], [2, 2, [], []]);
  assert.deepEqual(await second.claim([0, 1, 2, 3]), []);
  assert.deepEqual(await second.claim([0, 1, 2, 3], true), [], "it never had a session to lose");
  await first.expire();
  told = await second.attend();
  assert.deepEqual([told.share, told.workers, told.free, told.gone], [4, 1, [0, 1, 2, 3], []]);
  assert.equal((await second.claim([0, 1])).length, 2);
  // It was only slow: what no worker has taken is still its own.
  const back = await first.attend();
  assert.deepEqual([back.mine, back.share, back.workers], [[2, 3], 2, 2]);
});

test("one who looks without renewing keeps its lease as it is", async ({ sql }) => {
  await register(sql, 1);
  const hand = new Hand(sql);
  await hand.attend();
  const until = () => sql("select lease_until::text from hark.processes");
  const before = await until();
  await hand.attend(false);
  assert.deepEqual(await until(), before);
  await hand.attend(true);
  assert.notDeepEqual(await until(), before);
});

test("partitions of a worker whose session has ended are gone, and not free, until they are claimed so", async (context) => {
  await register(context.sql, 3);
  const key = "7040";
  const listening: Client = await context.client();
  await listening.query("select pg_advisory_lock($1)", [key]);
  const [first, second] = [new Hand(context.sql, "c", key), new Hand(context.sql)];
  await first.attend();
  await first.claim([0, 1, 2]);
  let told = await second.attend();
  assert.deepEqual([told.workers, told.free, told.gone], [2, [], []]);
  assert.deepEqual(await second.claim([0], true), [], "its session is there");
  await listening.query("select pg_advisory_unlock($1)", [key]);
  told = await second.attend();
  assert.deepEqual([told.workers, told.share, told.free, told.gone], [1, 3, [], [0, 1, 2]]);
  assert.deepEqual(await second.claim([0, 1, 2]), [], "not unless it is presumed gone");
  const claimed = await second.claim([0, 1], true);
  assert.deepEqual(claimed.map((row) => [row.partition, row.crashes]), [[0, 1], [1, 1]]);
  await listening.query("select pg_advisory_lock($1)", [key]);
  const back = await first.attend();
  assert.deepEqual(back.mine, [2], "it came back in time for this one");
});

test("two that look at once do not take each other for the owner of a session", async (context) => {
  await register(context.sql, 1);
  const first = new Hand(context.sql, "c", "7041");
  await first.attend();
  await first.claim([0]);
  const clients = [await context.client(), await context.client()] as const;
  const told: Row[] = [];
  for (const client of clients) {
    await client.query("begin");
    const hand = new Hand(async (text, values) => (await client.query(text, values)).rows);
    told.push(await hand.attend());
  }
  for (const client of clients) await client.query("rollback");
  assert.deepEqual(told.map((row) => row.gone), [[0], [0]]);
});

test("a worker started with something else is outdated, has no share, and is no worker", async ({ sql }) => {
  await register(sql, 2);
  const [old, current] = [new Hand(sql), new Hand(sql)];
  await old.attend();
  await old.claim([0, 1]);
  await sql("select hark.register('c', array['c', 'd'], version => 1)");
  const told = await old.attend();
  assert.deepEqual([told.outcome, told.share, told.mine, told.free], ["outdated", 0, [], []]);
  assert.deepEqual(await old.claim([0, 1]), [], "nor may it claim");
  const other = await current.attend(true, ["d", "c", "d"]);
  assert.deepEqual([other.outcome, other.share, other.workers, other.free], ["serve", 2, 1, [
    0,
    1,
  ]]);
  const filtered = await current.attend(true, ["c", "d"], '{"key": ["a"]}');
  assert.equal(filtered.outcome, "outdated");
});

test("who does not attend cannot claim", async ({ sql }) => {
  await register(sql, 1);
  const hand = new Hand(sql);
  assert.deepEqual(await hand.claim([0]), []);
  await hand.attend();
  await hand.expire();
  assert.deepEqual(await hand.claim([0]), []);
  await hand.attend();
  assert.equal((await hand.claim([0])).length, 1);
  assert.deepEqual(await hand.claim([7, -1]), [], "there is no such partition");
});

test("of two that claim at once, one gets it", async (context) => {
  await register(context.sql, 1);
  const clients = [await context.client(), await context.client()] as const;
  const [first, second] = clients.map((client) =>
    new Hand(async (text, values) => (await client.query(text, values)).rows)
  ) as [Hand, Hand];
  await first.attend();
  await second.attend();
  await clients[0].query("begin");
  const [got] = await first.claim([0]);
  const waiting = second.claim([0]);
  await waitsFor(clients[0], "hark.claim(");
  await clients[0].query("commit");
  assert.deepEqual(await waiting, []);
  assert.deepEqual((await first.attend()).epochs, [got.epoch]);
});

test("an owner that ended without giving back counts as a crash, each time; giving back resets it", async ({ sql }) => {
  await register(sql, 2);
  const crashes: number[] = [];
  const epochs: number[] = [];
  for (let n = 0; n < 4; n++) {
    const hand = new Hand(sql);
    await hand.attend();
    const [claimed] = await hand.claim([0]);
    crashes.push(claimed.crashes);
    epochs.push(Number(claimed.epoch));
    const [again] = await hand.claim([0]);
    assert.deepEqual(
      [again.crashes, Number(again.epoch)],
      [n, Number(claimed.epoch) + 1],
      "its own",
    );
    await hand.expire();
  }
  assert.deepEqual(crashes, [0, 1, 2, 3]);
  assert.deepEqual(epochs, epochs.toSorted((a, b) => a - b));
  const last = new Hand(sql);
  await last.attend();
  const [claimed] = await last.claim([0]);
  assert.equal(claimed.crashes, 4);
  assert.equal(await last.release([0], [Number(claimed.epoch) - 1]), 0, "under an old epoch");
  assert.equal(await last.release([1], [0]), 0, "not its own");
  assert.equal(
    (await sql("select crashes from hark.partitions where partition = 0"))[0].crashes,
    4,
  );
  assert.equal(await last.release([0], [claimed.epoch]), 1);
  const next = new Hand(sql);
  await next.attend();
  assert.deepEqual((await next.claim([0, 1])).map((row) => row.crashes), [0, 0]);
});

test("a worker that takes leave without giving back leaves its partitions free, as a crash", async ({ sql }) => {
  await register(sql, 1);
  const [first, second] = [new Hand(sql), new Hand(sql)];
  await first.attend();
  await first.claim([0]);
  await sql("select hark.leave('c', $1)", [first.owner]);
  assert.deepEqual((await second.attend()).free, [0]);
  assert.equal((await second.claim([0]))[0].crashes, 1);
});

test("a worker that has not asked for the length of a lease loses its share, though its process lives", async ({ sql }) => {
  await register(sql, 1);
  const [process, absent, other] = [crypto.randomUUID(), crypto.randomUUID(), new Hand(sql)];
  const beat = async (owners: string[], gone: string[] = []) =>
    await sql(
      `select h.* from hark.heartbeat($1, null, 15000, true, null, array_fill('c'::text, array[cardinality($2::uuid[])]),
        $2, array_fill(null::text, array[cardinality($2::uuid[])]),
        (select json_agg(json_build_object('channels', array['c'], 'filter', null, 'transactional', false))
          from unnest($2::uuid[])), $3) h order by h.n`,
      [process, owners, gone],
    );
  const second = crypto.randomUUID();
  const told = await beat([absent, second]);
  assert.deepEqual(told.map((row) => [row.n, row.outcome, row.workers]), [
    [1, "serve", 2],
    [2, "serve", 2],
  ]);
  await sql("select hark.claim('c', '{0}', $1)", [absent]);
  assert.deepEqual((await other.attend()).free, []);
  await beat([second], [absent]);
  const free = await other.attend();
  assert.deepEqual([free.free, free.workers], [[0], 2]);
  const [again] = await beat([absent]);
  assert.deepEqual([again.outcome, again.workers, again.share], ["serve", 3, 0], "the youngest");
});

test("a heartbeat waits for nothing that another session holds of a consumer", async ({ sql, client }) => {
  await register(sql, 2);
  await register(sql, 1, "d");
  const hand = new Hand(sql);
  await hand.attend();
  await hand.claim([0, 1]);
  const holder = await client();
  await holder.query("begin");
  await holder.query("select from hark.consumers for update");
  await holder.query("select from hark.partitions for update");
  await sql("set lock_timeout = '100ms'");
  assert.deepEqual((await hand.attend()).mine, [0, 1]);
  const other = new Hand(sql, "d");
  assert.equal((await other.attend()).outcome, "serve");
  assert.equal((await sql("select from hark.workers where consumer = 'd'")).length, 0, "not yet");
  await holder.query("rollback");
  await other.attend();
  assert.equal((await sql("select from hark.workers where consumer = 'd'")).length, 1);
});

test("a heartbeat names the newest mark only while that sees all that is committed", async ({ sql, client }) => {
  await register(sql, 1);
  const hand = new Hand(sql);
  // Again and again: a transaction of another database's that ends in between asks for one more mark.
  const settled = () =>
    until(async () => {
      const [{ mark }] = await sql("select hark.content_of(hark.cut()) as mark");
      return (await hand.attend()).mark === mark;
    });
  await settled();
  await sql("select hark.notify('c', '1')");
  assert.equal((await hand.attend()).mark, null, "committed");
  await settled();
  const late = await client();
  await late.query("begin");
  await late.query("select hark.notify('c', '2')");
  await sql("select hark.notify('c', '3')");
  await settled();
  await late.query("commit");
  assert.equal((await hand.attend()).mark, null, "committed late, below the newest mark's last id");
  await settled();
});
