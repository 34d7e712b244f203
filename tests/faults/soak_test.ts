/**
 * Readers of 1,000 channels that come and go, each woken for what is published as it sleeps. None of them
 * polls: a notification that does not arrive within seconds was a wake-up that was lost.
 *
 * HARK_SOAK_SECONDS is how long, 10 unless given. Ten minutes: HARK_SOAK_SECONDS=600.
 */

import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { NEVER_POLL, Reading } from "./_support/running.ts";

const seconds = Number(Deno.env.get("HARK_SOAK_SECONDS") ?? 10);
/** How many readers at once. Each has its own place in the run. */
const readers = 12;
const channels = 1_000;
/** How long a wake-up may take. Far less than a poll. */
const soon = 10_000;

/** Numbers that look random and are the same in every run. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed;;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state / 2 ** 32;
  }
}

test(
  "no wake-up is lost while readers of 1,000 channels come and go",
  { timeout: (seconds + 60) * 1000 },
  async (context) => {
    const db = context.use(await connect(context.url));
    const ends = performance.now() + seconds * 1000;
    let [slept, woken] = [0, 0];
    const comeAndGo = async (place: number) => {
      const random = numbers(place + 1);
      const below = (most: number) => Math.floor(random.next().value * most);
      const publisher = await context.client();
      while (performance.now() < ends) {
        const names = Array.from({ length: 1 + below(3) }, () => `c${below(channels)}`);
        // Only what this reader's own publisher sends counts: others use the channels too.
        const mine = `${place} ${slept++}`;
        let ready = false;
        await using reading = new Reading(db, [...new Set(names)], {
          pollInterval: NEVER_POLL,
          onReady: () => void (ready = true),
        });
        await until(() => ready);
        const arrived = () => reading.payloads.filter((payload) => payload === mine).length;
        for (let n = 1; n <= 1 + below(4); n++) {
          // Some publish while the reader falls asleep, some in a transaction that stays open.
          await new Promise((resolve) => setTimeout(resolve, below(40)));
          const open = below(3) === 0;
          if (open) await publisher.query("begin");
          await publisher.query("select hark.notify($1, to_jsonb($2::text))", [
            names[below(names.length)],
            mine,
          ]);
          if (open) {
            await new Promise((resolve) => setTimeout(resolve, below(60)));
            await publisher.query("commit");
          }
          await until(() => arrived() >= n, {
            deadline: soon,
            what: `notification ${n} of reader ${mine} on ${names.join(", ")}`,
          });
          woken++;
        }
      }
    };
    await Promise.all(Array.from({ length: readers }, (_, place) => comeAndGo(place)));
    console.log(`${slept} readers came and went, and were woken for ${woken} notifications`);
    assert(woken > slept);
    const [{ open }] = await context.sql(
      `select count(*)::int as open from unnest('hark.front_gate'::regclass || hark.gates()) g
       where pg_sequence_last_value(g) <> 0`,
    );
    assert.equal(open, 0, "the last reader that goes shuts the gates");
  },
);
