/**
 * A writer looks whether a reader sleeps, and a reader falls asleep: each interleaving in which a wake-up could be
 * lost, and that it is where the rule against it is broken.
 */

import { replaceIn, type Staging, stagings } from "../windows/_support/staging.ts";
import { asleep, quiet, Sleeper, slowly } from "./_support/sleeping.ts";

const forgetful = {
  rule: "for one that waits for no writer when it falls asleep",
  in: "hark.publishers",
  from: "array_agg(n.transactionid)",
  to: "(array_agg(n.transactionid))[1:0]",
};
const processesOnly = {
  rule: "where only what has a process is waited for",
  in: "hark.publishers",
  from: "where l.granted",
  to: "where l.granted and l.pid is not null",
};
const manyInOne = `select hark.notify_many('[{"channel": "c", "payload": 1}]')`;

const races: Staging[] = [
  {
    promise: "what is published while a reader sleeps wakes",
    breaks: [{
      rule: "where the front gate stays shut",
      in: "hark.gates_of",
      from: "array['hark.front_gate', hark.gate_of(n.name)]",
      to: "array[hark.gate_of(n.name)]",
    }],
    stage: async (lab) => {
      await using sleeper = await Sleeper.asleep(lab);
      await lab.sql("select hark.notify('c', '1')");
      await sleeper.isGiven(1);
    },
  },
  {
    promise: "what was published before a reader slept, and commits after, wakes",
    breaks: [forgetful],
    stage: async (lab) => {
      const writer = await lab.writer();
      await writer.notify(1);
      await using sleeper = await Sleeper.asleep(lab);
      await writer.commit();
      await sleeper.isGiven(1);
    },
  },
  {
    promise: "so does what a transaction publishes that is open for long, while others wake",
    breaks: [forgetful],
    stage: async (lab) => {
      const writer = await lab.writer();
      await writer.notify(1);
      await using sleeper = await Sleeper.asleep(lab);
      await lab.sql("select hark.notify('c', '2')");
      await sleeper.isGiven(2);
      await quiet(lab);
      await writer.commit();
      await sleeper.isGiven(2, 1);
    },
  },
  {
    promise: "so does what is published by many at once, one after the other committing",
    breaks: [forgetful],
    stage: async (lab) => {
      const writers = await Promise.all(Array.from({ length: 5 }, () => lab.writer()));
      for (const [n, writer] of writers.entries()) await writer.notify(n);
      await using sleeper = await Sleeper.asleep(lab);
      for (const [n, writer] of writers.entries()) {
        await writer.commit();
        await sleeper.isGiven(...Array.from({ length: n + 1 }, (_, i) => i));
      }
    },
  },
  {
    promise: "so does what a publisher is in the middle of, slow in its insert",
    breaks: [{
      rule: "when it looks before it takes its number and its lock",
      in: "hark.notify",
      from: "insert into hark.log (",
      to:
        `perform pg_catalog.set_config('test.gate', coalesce(hark.is_gate_open($1), false)::text, true);
        perform pg_advisory_xact_lock_shared(77);
        insert into hark.log (`,
      flag: "early look",
    }],
    stage: async (lab) => {
      if (!lab.broken("early look")) await slowly(lab);
      else {
        await replaceIn(lab.url, {
          rule: "",
          in: "hark.notify",
          from: "if hark.is_gate_open($1) then",
          to: "if current_setting('test.gate')::bool then",
        });
      }
      let sleeper: Sleeper | undefined;
      try {
        await lab.held(lab.gate, () => lab.sql("select hark.notify('c', '1')"), async () => {
          sleeper = await Sleeper.asleep(lab);
        });
        await sleeper!.isGiven(1);
      } finally {
        await sleeper?.[Symbol.asyncDispose]();
      }
    },
  },
  ...["select hark.notify('c', '1')", manyInOne].map(
    (call): Staging => ({
      promise: `a REPEATABLE READ transaction that began before a reader slept wakes: ${call}`,
      breaks: [{
        rule: "where it looks like any other",
        in: "hark.wake_one",
        from:
          "pg_catalog.starts_with(pg_catalog.current_setting('transaction_isolation'), 'read ')",
        to: "true",
      }],
      stage: async (lab) => {
        const client = await lab.client();
        await client.query("begin isolation level repeatable read; select 1");
        await using sleeper = await Sleeper.asleep(lab);
        await client.query(call);
        await client.query("commit");
        await sleeper.isGiven(1);
      },
    }),
  ),
  {
    promise: "a transaction that was prepared before a reader slept wakes when it commits",
    breaks: [processesOnly],
    stage: async (lab) => {
      const writer = await lab.writer();
      await writer.notify(1);
      await writer.client.query("prepare transaction 'before'");
      await using sleeper = await Sleeper.asleep(lab);
      await writer.client.query("commit prepared 'before'");
      await sleeper.isGiven(1);
    },
  },
  {
    promise: "so does one that was open then, and is prepared and commits after",
    breaks: [processesOnly],
    stage: async (lab) => {
      const writer = await lab.writer();
      await writer.notify(1);
      await using sleeper = await Sleeper.asleep(lab);
      await writer.client.query("prepare transaction 'after'");
      await quiet(lab, 3_000); // more than is between two looks by now
      await writer.client.query("commit prepared 'after'");
      // Between two looks is half as long as it has been waiting for that transaction.
      await sleeper.isGivenWithin(10_000, 1);
    },
  },
  {
    promise: "what is published while a read is under way is read after it",
    stage: async (lab) => {
      await using sleeper = await Sleeper.asleep(lab);
      const gate = async () => {
        const client = await lab.client();
        await client.query("begin; lock table hark.install in access exclusive mode");
        return client;
      };
      // The read has opened its window, and waits before its first row.
      await lab.held(gate, async () => {
        await lab.sql("select hark.notify('c', '1')");
        await sleeper.running.atLeast(1);
      }, async () => void await lab.sql("select hark.notify('c', '2')"));
      await sleeper.isGiven(1, 2);
    },
  },
  {
    promise: "what commits between the last look and the word that a reader sleeps is found",
    stage: async (lab) => {
      const gate = async () => {
        const client = await lab.client();
        await client.query("begin; lock table hark.sleepers in share row exclusive mode");
        return client;
      };
      let sleeper: Sleeper | undefined;
      try {
        await lab.held(gate, async () => {
          sleeper = await Sleeper.asleep(lab);
        }, async () => void await lab.sql("select hark.notify('c', '1')"));
        await sleeper!.isGiven(1);
      } finally {
        await sleeper?.[Symbol.asyncDispose]();
      }
    },
  },
  {
    promise: "a reader that falls asleep beside a sleeper is woken as well",
    breaks: [forgetful],
    stage: async (lab) => {
      const writer = await lab.writer();
      await writer.notify(1);
      await using one = await Sleeper.asleep(lab);
      await using two = await Sleeper.start(lab, { id: "d" });
      await asleep(lab, 2);
      await quiet(lab);
      await writer.commit();
      await one.isGiven(1);
      await two.isGiven(1);
    },
  },
];

stagings("no wake-up is lost", races);
