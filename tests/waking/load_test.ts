/** Under load a reader stays awake, so that publishers need not notify; then it sleeps again. */

import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { fallTime } from "../../src/consume/read/load_meter.ts";
import { NEVER_POLL, Reading, Running } from "../faults/_support/running.ts";
import { type Client, test, type TestContext, until } from "../harness/mod.ts";
import { asleep, Ears } from "./_support/sleeping.ts";

/** Several publish, each one after the other with a number of milliseconds between, until told to stop. */
class Stream implements AsyncDisposable {
  count = 0;
  #stop = false;
  readonly #running: Promise<unknown>;
  constructor(clients: readonly Client[], between = 0, key: string | null = null) {
    this.#running = Promise.all(clients.map(async (client) => {
      while (!this.#stop) {
        await client.query("select hark.notify('c', $1, $2)", [String(++this.count), key]);
        if (between > 0) await new Promise((resolve) => setTimeout(resolve, between));
      }
    }));
  }
  async stop(): Promise<number> {
    this.#stop = true;
    await this.#running;
    return this.count;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

const publishers = (context: TestContext): Promise<Client[]> =>
  Promise.all([1, 2, 3].map(() => context.client()));

async function underLoad(
  context: TestContext,
  payloads: () => unknown[],
  sleepers: number,
): Promise<void> {
  const clients = await publishers(context);
  const ears = await Ears.open(await context.client());
  await asleep(context, sleepers);
  let total = 0;
  for (let round = 0; round < 2; round++) {
    await using stream = new Stream(clients);
    // Again and again: where the load pauses for seconds, readers sleep and are notified.
    await until(async () => {
      await asleep(context, 0); // within some seconds of load
      const underWay = stream.count + 20; // those had looked before
      await until(() => stream.count >= underWay);
      const before = (await ears.soFar()).length;
      const more = stream.count + 100;
      await until(() => stream.count >= more);
      return (await ears.soFar()).length === before;
    }, { what: "100 to be published while all readers are awake, with none notified" });
    total += await stream.stop();
    await until(() => payloads().length >= total, { what: `${total} to be delivered` });
    await asleep(context, sleepers);
    const heard = (await ears.soFar()).length;
    await context.sql("select hark.notify('c', '0')");
    total++;
    await until(() => payloads().length >= total, { what: "a single one to wake" });
    assert((await ears.soFar()).length > heard, "it was notified of");
  }
  assert.equal(payloads().length, total);
}

test("a consumer stays awake under load, and is woken again after it", async (context) => {
  const db = context.use(await connect(context.url));
  const running = context.use(new Running(db, { pollInterval: NEVER_POLL }));
  await underLoad(context, () => running.payloads, 1);
});

test("so does a subscription", async (context) => {
  const db = context.use(await connect(context.url));
  const reading = context.use(new Reading(db, "c", { pollInterval: NEVER_POLL }));
  await underLoad(context, () => reading.payloads, 1);
});

for (const what of ["consumer", "subscription"]) {
  test(`a ${what} sleeps again after a load though something comes now and then`, async (context) => {
    const db = context.use(await connect(context.url));
    const options = { pollInterval: NEVER_POLL };
    if (what === "consumer") context.use(new Running(db, options));
    else context.use(new Reading(db, "c", options));
    await asleep(context);
    await using stream = new Stream(await publishers(context));
    await asleep(context, 0);
    await stream.stop();
    await using _drip = new Stream([await context.client()], 200);
    await asleep(context);
  });
}

test("a consumer whose handler is too slow for the load does not have publishers wait for it", async (context) => {
  const db = context.use(await connect(context.url));
  let slow = true;
  const running = context.use(
    new Running(db, {
      pollInterval: NEVER_POLL,
      readAhead: 10,
      handle: async () => {
        if (slow) await new Promise((resolve) => setTimeout(resolve, 50));
      },
    }),
  );
  await asleep(context);
  // As many as keep it awake, but no more: all of them are read by tens in the end.
  await using stream = new Stream(await publishers(context), 2);
  await asleep(context, 0);
  const total = await stream.stop();
  slow = false;
  await running.atLeast(total, { deadline: 40_000 });
  await asleep(context);
});

test("a worker that is woken for another worker's partition changes its row a few times only", async (context) => {
  await context.sql(`
    create sequence changes;
    create function change() returns trigger language plpgsql as
      $$ begin perform nextval('public.changes'); return null; end $$;
    create trigger removed after delete on hark.sleepers for each row execute function change()`);
  const db = context.use(await connect(context.url));
  const options = { pollInterval: NEVER_POLL, partitions: 2 };
  const workers = [1, 2].map(() => context.use(new Running(db, options)));
  await until(async () => {
    const served = "select from hark.partitions where owner is not null group by owner";
    return (await context.sql(served)).length === 2;
  });
  await asleep(context, 2);
  const begun = performance.now();
  await using stream = new Stream(await publishers(context), 0, "of one partition");
  await until(() => performance.now() - begun > fallTime && stream.count > 1000);
  await stream.stop();
  await until(() => workers.some(({ payloads }) => payloads.length >= stream.count));
  const seconds = (performance.now() - begun) / 1000;
  const [{ count }] = await context.sql("select last_value::int as count from changes");
  assert(count <= 2 * (1 + seconds / 3), `${count} rows were removed in ${seconds} s`);
});
