/** Consumers of a process that read in common, while writers commit late, and consumers come and go. */

import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { connect, type Database } from "../../mod.ts";
import { countPages } from "../consume/_support/common.ts";
import { NEVER_POLL, numbers, Running } from "../faults/_support/running.ts";
import { test, type TestContext, until } from "../harness/mod.ts";

/** A transaction of a writer. */
interface Step {
  /** On which of the channels it publishes: a bit each. */
  readonly channels: number;
  readonly count: number;
  /** For how long it is open after it has published, in ms. */
  readonly open: number;
  readonly ends: "commit" | "rollback" | "savepoint";
}

/** What befalls the consumers. */
type Act =
  | { readonly what: "move"; readonly who: number }
  | { readonly what: "restart"; readonly who: number }
  | { readonly what: "seek"; readonly who: number }
  | { readonly what: "cut"; readonly db: number }
  | { readonly what: "wait"; readonly ms: number };

interface Plan {
  readonly writers: readonly (readonly Step[])[];
  readonly acts: readonly Act[];
  /** For each consumer its channels, a bit each, and its number of partitions. */
  readonly consumers: readonly { readonly channels: number; readonly partitions: number }[];
}

const CHANNELS = 6;
const bits = fc.integer({ min: 1, max: 2 ** CHANNELS - 1 });
const plans: fc.Arbitrary<Plan> = fc.record({
  writers: fc.array(
    fc.array(
      fc.record({
        channels: bits,
        count: fc.oneof(
          { weight: 6, arbitrary: fc.integer({ min: 1, max: 4 }) },
          { weight: 1, arbitrary: fc.integer({ min: 100, max: 400 }) },
        ),
        open: fc.oneof(
          { weight: 3, arbitrary: fc.constant(0) },
          { weight: 1, arbitrary: fc.integer({ min: 1, max: 80 }) },
        ),
        ends: fc.constantFrom("commit", "commit", "commit", "rollback", "savepoint"),
      }),
      { minLength: 10, maxLength: 25 },
    ),
    { minLength: 3, maxLength: 5 },
  ),
  acts: fc.array(
    fc.oneof(
      fc.record({ what: fc.constant("move" as const), who: fc.nat(11) }),
      fc.record({ what: fc.constant("restart" as const), who: fc.nat(11) }),
      fc.record({ what: fc.constant("seek" as const), who: fc.nat(11) }),
      fc.record({ what: fc.constant("cut" as const), db: fc.nat(1) }),
      fc.record({ what: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 60 }) }),
    ),
    { minLength: 4, maxLength: 12 },
  ),
  consumers: fc.array(
    fc.record({ channels: bits, partitions: fc.constantFrom(1, 1, 1, 2, 3) }),
    { minLength: 12, maxLength: 12 },
  ),
}) as fc.Arbitrary<Plan>;

const chosen = (of: number, run: number) =>
  numbers(0, CHANNELS - 1).filter((n) => (of >> n & 1) === 1).map((n) => `r${run}-${n}`);

/** Runs a writer's transactions, one after the other. Returns what each channel has of it. */
async function write(context: TestContext, steps: readonly Step[], name: string, run: number) {
  const client = await context.client();
  const kept: { channel: string; n: number }[] = [];
  let n = 0;
  for (const { channels, count, open, ends } of steps) {
    await client.query("begin");
    if (ends === "savepoint") await client.query("savepoint s");
    const of: typeof kept = [];
    for (const _ of numbers(1, count)) {
      for (const channel of chosen(channels, run)) of.push({ channel, n: ++n });
    }
    await client.query(
      `select hark.notify(x.channel, to_jsonb(x.n), $2)
       from json_to_recordset($1) as x (channel text, n integer) order by x.n`,
      [JSON.stringify(of), name],
    );
    if (open > 0) await client.query("select pg_sleep($1)", [open / 1000]);
    if (ends === "savepoint") await client.query("rollback to savepoint s");
    await client.query(ends === "rollback" ? "rollback" : "commit");
    if (ends === "commit") kept.push(...of);
  }
  return kept;
}

test(
  "consumers of two processes, that move between them while writers commit late, get all of theirs in order",
  { timeout: 300_000 },
  async (context) => {
    let run = 0;
    const pages = await countPages(context);
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        const number = ++run;
        const [{ id: first }] = await context.sql("select hark.notify('begins') as id");
        const dbs = [await connect(context.url), await connect(context.url)];
        const all: Running[][] = plan.consumers.map(() => []);
        const start = (who: number, db: Database) => {
          const { channels, partitions } = plan.consumers[who]!;
          const one = new Running(db, {
            id: `r${number}-c${who}`,
            channels: chosen(channels, number),
            partitions,
            pollInterval: NEVER_POLL,
          });
          all[who]!.push(one);
          return one;
        };
        try {
          const places = plan.consumers.map(() => 0);
          await Promise.all(
            plan.consumers.map((_, who) => start(who, dbs[0]!).consumer.ready),
          );
          const writing = Promise.all(
            plan.writers.map((steps, n) => write(context, steps, `w${n}`, number)),
          );
          for (const act of plan.acts) await perform(act, places);
          const written = await writing;
          for (const [who, runs] of all.entries()) {
            const names = chosen(plan.consumers[who]!.channels, number);
            for (const [n, kept] of written.entries()) {
              const own = kept.filter(({ channel }) => names.includes(channel)).map(({ n }) => n);
              // Repeats are allowed after a takeover or a seek, and what a seek has moved back over.
              const seen = () => [
                ...new Set(
                  runs.flatMap(({ inbox }) => inbox.items)
                    .filter(({ key }) => key === `w${n}`).map(({ payload }) => payload),
                ),
              ];
              await until(() => seen().length >= own.length, {
                what: `consumer ${who} to have all of writer ${n}`,
                deadline: 40_000,
              });
              assert.deepEqual(seen(), own, `consumer ${who}, writer ${n}`);
            }
          }
        } finally {
          await Promise.all(all.flat().filter(({ over }) => !over).map((one) => one.stop()));
          for (const db of dbs) await db[Symbol.asyncDispose]();
        }

        async function perform(act: Act, places: number[]): Promise<void> {
          if (act.what === "wait") return await new Promise((done) => setTimeout(done, act.ms));
          if (act.what === "cut") {
            await context.sql(
              `select pg_terminate_backend(pid, 5000) from pg_stat_activity
               where application_name = $1 and pid <> pg_backend_pid() and query like '%hark.%window%'`,
              [context.appName],
            );
            return;
          }
          const { who } = act;
          if (act.what === "seek") {
            await context.sql(
              "select hark.seek($1, 'id', $2)",
              [`r${number}-c${who}`, first],
            );
            return;
          }
          const last = all[who]!.at(-1)!;
          if (act.what === "move") places[who] = 1 - places[who]!;
          const next = start(who, dbs[places[who]!]!);
          if (act.what === "restart") {
            await last.stop();
            await next.consumer.ready;
          } else {
            await next.consumer.ready;
            await last.stop();
          }
        }
      }),
      { numRuns: 8, endOnFailure: true },
    );
    assert(await pages() > 0, "they have read in common");
  },
);
