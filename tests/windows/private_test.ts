/** Private marks: readers read to them, positions refer to them, and the database stores few marks. */

import assert from "node:assert/strict";
import { test, until } from "../harness/mod.ts";
import { look, numberOf, RegisteredReader, UnregisteredReader } from "./_support/reader.ts";
import { NotStaged, type Staging, stagings } from "./_support/staging.ts";
import { assertExactlyOnce } from "./_support/truth.ts";

const idle: Staging = {
  promise: "cleaning moves no position back from a private mark to a stored one",
  breaks: [{
    rule: "when it goes by another number alone",
    in: "hark.advance_idle",
    from:
      "newest.upper > (a.mark).upper or newest.upper = (a.mark).upper and newest.running < (a.mark).running",
    to: "s.seen <> newest.number",
  }],
  stage: async (lab) => {
    const reader = await RegisteredReader.open(await lab.client(), "r", ["c"]);
    reader.looks = true;
    for (let n = 0; n < 2; n++) {
      await lab.publish(2);
      await reader.window();
    }
    if (Number(numberOf(reader.position.seen)) >= 0) throw new NotStaged("no private mark");
    await reader.release();
    await lab.sql("select hark.advance_idle(1000)");
    await reader.claim();
    await reader.drain();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const late: Staging = {
  promise: "what commits late is read in the window that begins at a private mark",
  breaks: [{
    rule: "when the mark does not know its stragglers",
    in: "hark.new_mark",
    from: "    m.running := cardinality(m.stragglers);",
    to: "    if private then m.stragglers := '{}'; end if; m.running := cardinality(m.stragglers);",
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    reader.looks = true;
    const slow = await lab.writer();
    await slow.notify();
    await lab.publish(3);
    await reader.window();
    await lab.publish(3);
    await reader.window();
    await slow.commit();
    await reader.window();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

const unsettled: Staging = {
  promise: "a transaction that drew the last id before a look is noticed when it commits",
  breaks: [{
    rule: "when a look that finds the sequence standing still tells the last mark",
    in: "hark.new_mark",
    from: "and last.floor = last.max_id and last.life",
    to: "and last.life",
  }],
  stage: async (lab) => {
    const reader = await UnregisteredReader.open(await lab.client(), ["c"]);
    const stuck = await lab.writer();
    await stuck.notify();
    await lab.sql("select hark.cut()");
    reader.looks = true;
    await reader.window();
    await stuck.commit();
    await reader.window();
    await assertExactlyOnce(reader.client, reader.delivered);
  },
};

stagings("a reader of private marks is given each notification once", [idle, late, unsettled]);

test("a look stores nothing, and says when a mark is to be stored", async ({ sql, client }) => {
  const reader = await client();
  const wants = async () => {
    const [{ wants }] = await sql("select hark.wants_cut(hark.look()) as wants");
    return wants;
  };
  // Of a mark that is young. On a slow machine it may be too old by the time that it is asked.
  const wantsNone = () =>
    until(async () => {
      await sql("update hark.marks set taken_at = clock_timestamp()");
      return !await wants();
    }, { what: "a young mark to be enough" });
  const count = async () => (await sql("select count(*)::int as count from hark.marks"))[0]!.count;
  await sql("select hark.notify('c')");
  // Transactions of others on the server may end in between, and then there is more to say.
  await until(async () => {
    await sql("select hark.cut()");
    return Number(numberOf(await look(reader))) > 0;
  }, { what: "the newest mark to say it all" });
  const before = await count();
  await sql("select hark.notify('c')");
  const [first, second] = [await look(reader), await look(reader)];
  assert.ok(Number(numberOf(first)) < 0);
  assert.notEqual(numberOf(first), numberOf(second));
  assert.equal(await count(), before);
  await wantsNone();
  await sql("update hark.marks set taken_at = clock_timestamp() - interval '1 minute'");
  assert.equal(await wants(), true, "after a second");
  await sql("update hark.marks set taken_at = clock_timestamp() + interval '1 minute'");
  assert.equal(await wants(), true, "after the clock went back");
  await sql("select hark.cut()");
  await sql("select hark.notify('c') from generate_series(1, 190)");
  await wantsNone();
  await sql("select hark.notify('c') from generate_series(1, 20)");
  assert.equal(await wants(), true, "after 200 ids");
});

test("nothing can be built upon a private mark: it is not taken into the chain", async ({ sql }) => {
  await sql("select hark.notify('c')");
  await assert.rejects(sql("insert into hark.marks select (hark.look()).*"));
});
