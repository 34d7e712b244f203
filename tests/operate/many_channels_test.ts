import assert from "node:assert/strict";
import { connect, Consumer, replay, seek, status } from "../../mod.ts";
import { output } from "../cli/_support/hark.ts";
import { patient, test, type TestContext } from "../harness/mod.ts";

const few = ["mine"];
const many = [...Array.from({ length: 5000 }, (_, n) => `channel ${n}`), "mine"];

/** The best of ten runs, in milliseconds: on a busy machine some of them wait for a processor. */
async function best({ sql }: TestContext, text: string, values: unknown[]): Promise<number> {
  const times: number[] = [];
  for (let n = 0; n < 10; n++) {
    const begun = performance.now();
    await sql(text, values);
    times.push(performance.now() - begun);
  }
  return Math.min(...times);
}

test("passing a notification of another channel costs the same for 5,000 channels as for one", async (context) => {
  const { sql } = context;
  await sql("select count(hark.notify('foreign', '1')) from generate_series(1, 20000)");
  for (const [name, channels] of [["few", few], ["many", many]]) {
    await sql("select hark.register($1, $2::text[])", [name, channels]);
    await sql(
      "update hark.partitions set seen = 0, after_id = 0 where consumer = $1",
      [name],
    );
  }
  await sql("select hark.notify('mine', '2')");
  await sql("select hark.cut()");
  const ways: Record<string, string> = {
    "reading a page": `select g.ids from hark.consumers c,
      hark.marks z, hark.newest_mark() m,
      hark.page(z, m, null, 0, c.channels, 500, 1000000, 100000, null) g where c.name = $1 and z.number = 0`,
    "counting what is unread": "select count(*) from hark.unread_of($1, 100000)",
    "asking whether a drain is over": "select hark.is_behind($1, '{0}', hark.newest_mark())",
  };
  for (const [what, text] of Object.entries(ways)) {
    const one = await best(context, text, ["few"]);
    const all = await best(context, text, ["many"]);
    // It was a hundred times as long.
    assert(
      all < 10 * one + patient(20),
      `${what}: ${all} ms for 5,000 channels, ${one} ms for one`,
    );
    const [[a], [b]] = [await sql(text, ["few"]), await sql(text, ["many"])];
    assert.deepEqual(a, b);
  }
});

test("a consumer of 5,000 channels reads, replays and seeks on each of them", async (context) => {
  const { sql, url, use } = context;
  await sql("select hark.notify(c, to_jsonb(c)) from unnest($1::text[]) c", [
    ["foreign", "channel 1", "channel 4999", "mine"],
  ]);
  const db = use(await connect(url));
  const handled: string[] = [];
  const handle = ({ payload }: { payload: string }) => void handled.push(payload);
  const consumer = new Consumer(db, { id: "c", channels: many, handle });
  assert.equal(await consumer.drain(), 3);
  await replay(db, "c", { from: 1 });
  assert.equal(await new Consumer(db, { id: "c", channels: many, handle }).drain(), 3);
  await seek(db, "c", "beginning");
  assert.equal(await new Consumer(db, { id: "c", channels: many, handle }).drain(), 3);
  assert.deepEqual(handled.slice(0, 3), ["channel 1", "channel 4999", "mine"]);
  assert.equal(new Set(handled).size, 3);
});

test("status counts a bounded part of a long log, and says that there may be more", async ({ sql, url, use }) => {
  const db = use(await connect(url));
  await sql("select hark.register('c', '{c}')");
  await sql(`select hark.register('f', '{c}', filter => '{"payload": 1}')`);
  await sql("select hark.notify('c', '1') from generate_series(1, 20)");
  const seen = async () =>
    (await status(db)).consumers.map(({ unread, unreadCapped }) => [unread, unreadCapped]);
  assert.deepEqual(await seen(), [[20, false], [20, false]]);
  const counted = async (args: string) =>
    (await sql(
      `select count(partition)::int as unread, count(*) > count(partition) as more
      from hark.unread_of(${args})`,
    ))[0];
  assert.deepEqual(await counted("'c', 100, 20"), { unread: 20, more: false });
  assert.deepEqual(await counted("'c', 100, 10"), { unread: 10, more: true });
  // The time of a status is over: filters, which may take long, are not asked.
  assert.deepEqual(await counted("'f', 100, 100, '-infinity'"), { unread: 0, more: true });
  assert.deepEqual(await counted("'c', 100, 100, '-infinity'"), { unread: 20, more: false });
  // As behind a million notifications of other channels.
  await sql("select setval('hark.log_id_seq', 2000000)");
  await sql("select hark.notify('c', '1')");
  assert.deepEqual(await seen(), [[20, true], [20, true]]);
  assert.match(await output(["status"], { url }), /^c +c +20\+/m);
});
