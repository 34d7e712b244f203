import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { publish, Running } from "../faults/_support/running.ts";
import { notify, oneDeadLetter } from "./_support/unreadable.ts";

/** Each of them is written as six: over the 1 GB that PostgreSQL makes of one value. */
const characters = 180_000_000;

test(
  "a payload that PostgreSQL itself cannot write out becomes a dead letter; its neighbours flow",
  {
    timeout: 180_000,
  },
  async (context) => {
    const db = context.use(await connect(context.url));
    await publish(context, 1, 3);
    await context.sql("select hark.notify('c', to_jsonb(repeat(E'\\x01', $1)), 'big')", [
      characters,
    ]);
    await context.sql(`select hark.notify('c', '"follower"', 'big')`);
    await publish(context, 4, 6);
    const lost: string[] = [];
    const running = context.use(
      new Running(db, { onDeadLetter: (error, n) => lost.push(`${n.id} ${error}`) }),
    );
    await until(() => running.payloads.includes(3) && running.payloads.includes(6), {
      deadline: 90_000,
    });
    await until(async () => (await context.sql("select from hark.dead")).length > 0, {
      deadline: 60_000,
      what: "the dead letter",
    });
    const [letter] = await context.sql("select id::int, key, error from hark.dead");
    assert.deepEqual([letter.id, letter.key], [4, "big"]);
    assert.match(letter.error, /payload|text|large|read/i);
    assert.equal(lost.length, 1);
    await until(() => running.payloads.includes("follower"));
    assert.deepEqual(running.payloads.toSorted(), [1, 2, 3, 4, 5, 6, "follower"]);
  },
);

test("headers that are long as text: one dead letter, and all others are handled", async (context) => {
  await oneDeadLetter(context, {
    what: "headers that are long as text",
    publish: notify(
      "'1'",
      "'k'",
      "jsonb_build_object('n', (select jsonb_agg(('1e131000')::numeric) from generate_series(1, 2100)))",
    ),
    error: /cannot be read: its payload and headers are over 256 MB as text/,
  });
});
