/** The rules that reading from a standby rests on: each staged, and again with the rule broken. */

import assert from "node:assert/strict";
import { once, type OwnServer, ownServer, until, withDatabaseName } from "../harness/mod.ts";
import { type Break, replaceIn } from "../windows/_support/staging.ts";
import { type Standby, standbyOf } from "./_support/standby.ts";

/** A database on a primary, and on its standby. */
class Pair {
  constructor(
    readonly primary: OwnServer,
    readonly standby: Standby,
    readonly name: string,
  ) {}

  /** Where it is on the primary. */
  get url(): string {
    return withDatabaseName(this.primary.url, this.name);
  }

  /** Opens a connection to the primary. */
  async client() {
    return await this.primary.client(this.url);
  }

  async sql(text: string, values?: unknown[]) {
    return await once(this.url, text, values);
  }

  /** Runs a statement on the standby. */
  async there(text: string, values?: unknown[]) {
    return await once(withDatabaseName(this.standby.url, this.name), text, values);
  }

  async cut(): Promise<string> {
    return (await this.sql("select hark.content_of(hark.cut()) as mark"))[0].mark;
  }

  /** A mark that is not stored. */
  async look(): Promise<string> {
    return (await this.sql("select hark.content_of(hark.look()) as mark"))[0].mark;
  }

  /** Waits until the standby has replayed all. */
  async caughtUp(): Promise<void> {
    await this.sql("select pg_switch_wal()"); // marks are not waited for, so they may not be flushed
    await this.standby.caughtUp(this.primary);
  }

  async hasNew(): Promise<boolean> {
    await this.caughtUp();
    return (await this.there("select has_new from hark.look_here()"))[0].has_new;
  }

  /** What lies between two marks, as the standby has it. */
  async page(seen: string, target: string): Promise<number> {
    const [row] = await this.there(
      `select coalesce(cardinality(string_to_array(p.ids, ',')), 0) as count
        from hark.page($1::hark.marks, $2::hark.marks, null, 0, null, 100, 100000, 1000, null) p`,
      [seen, target],
    );
    return row.count;
  }

  /** Keeps the standby from replaying while `work` runs. */
  async paused(work: () => Promise<void>): Promise<void> {
    await this.caughtUp();
    await this.there("select pg_wal_replay_pause()");
    try {
      await until(async () =>
        (await this.there("select pg_get_wal_replay_pause_state() = 'paused' as is"))[0].is
      );
      await work();
    } finally {
      await this.there("select pg_wal_replay_resume()");
    }
  }
}

interface Rule {
  readonly promise: string;
  readonly breaks: readonly Break[];
  readonly stage: (pair: Pair) => Promise<void>;
}

const ahead = { code: "HK009", hint: /Wait/ };

const rules: readonly Rule[] = [
  {
    promise: "a notification that no mark sees is something new, and one that a mark sees is not",
    breaks: [{
      rule: "when rows are not looked for",
      in: "hark.look_here",
      from: "exists (select from hark.log l where l.id > mark.max_id)",
      to: "false",
    }],
    async stage(pair) {
      await pair.cut();
      assert.equal(await pair.hasNew(), false);
      await pair.sql("select hark.notify('c')");
      assert.equal(await pair.hasNew(), true);
      await pair.cut();
      await pair.cut();
      assert.equal(await pair.hasNew(), false);
    },
  },
  {
    promise: "a transaction that a mark lists is something new once it has ended",
    breaks: [{
      rule: "when they are not looked at",
      in: "hark.look_here",
      from: "pg_xact_status(t.xid) is distinct from 'in progress'",
      to: "false",
    }],
    async stage(pair) {
      const late = await pair.client();
      await late.query("begin; select hark.notify('c')");
      for (let n = 0; n < 3; n++) {
        if (n === 0) await pair.sql("select hark.notify('c')");
        await pair.cut();
      }
      assert.equal(await pair.hasNew(), false);
      await late.query("commit");
      assert.equal(await pair.hasNew(), true);
      await pair.cut();
      assert.equal(await pair.hasNew(), false);
    },
  },
  {
    promise: "a transaction that no mark lists and that has a lower id is something new",
    breaks: [{
      rule: "when a mark need not be settled",
      in: "hark.look_here",
      from: "has_new := mark.floor < mark.max_id\n    or",
      to: "has_new :=",
    }],
    async stage(pair) {
      const late = await pair.client();
      await late.query("begin; select hark.notify('c')");
      // No later transaction has ended: the snapshot does not list this one.
      const mark = await pair.cut();
      assert.match(mark, /"?\{\}"?,"?\{\}"?/);
      await late.query("commit");
      assert.equal(await pair.hasNew(), true);
    },
  },
  {
    promise: "a page up to a mark that is not there yet is refused, and is whole once it is",
    breaks: [{
      rule: "when marks are not looked for",
      in: "hark.page",
      from: "perform hark.require_marks(seen, target);",
      to: "null;",
    }],
    async stage(pair) {
      await pair.sql("select hark.notify('c')");
      const seen = await pair.cut();
      let target = "", secret = "";
      await pair.paused(async () => {
        await pair.sql("select hark.notify('c') from generate_series(1, 7)");
        secret = await pair.look();
        await assert.rejects(pair.page(seen, secret), ahead);
        target = await pair.cut();
        await assert.rejects(pair.page(seen, target), ahead);
        await assert.rejects(pair.page(target, target), ahead);
      });
      await pair.caughtUp();
      assert.equal(await pair.page(seen, target), 7);
      assert.equal(await pair.page(seen, secret), 7);
    },
  },
  {
    promise: "a position that lies ahead is refused until it is there, and then repeats nothing",
    breaks: [{
      rule: "when positions are not looked for",
      in: "hark.resume_position",
      from: "perform hark.refuse_ahead(given_seen), hark.refuse_ahead(given_target);",
      to: "null;",
    }],
    async stage(pair) {
      const resume = (mark: string) =>
        pair.there(
          `select p.repeats from hark.resume_position(
            (select install from hark.log_facts()), $1::hark.marks, null, null, 0) p`,
          [mark],
        );
      await pair.sql("select hark.notify('c')");
      await pair.cut();
      let mark = "";
      await pair.paused(async () => {
        await pair.sql("select hark.notify('c')");
        mark = await pair.cut();
        await assert.rejects(resume(mark), ahead);
      });
      await pair.caughtUp();
      assert.equal((await resume(mark))[0].repeats, false);
    },
  },
  {
    promise: "a mark that a crash of the primary took is lost on the standby too, not ahead of it",
    breaks: [
      {
        rule: "when a life that has ended counts as one to come",
        in: "hark.is_ahead",
        from: "m.life > newest.life",
        to: "m.life <> newest.life",
      },
      {
        rule: "when marks of another life are taken as they come",
        in: "hark.survives",
        from: "where k.life = m.life and (k.upper",
        to: "where (k.upper",
      },
    ],
    async stage(pair) {
      const stored = async () =>
        Number((await pair.sql("select count(*) from hark.log"))[0]!.count);
      let [kept, lost, before] = ["", "", 0];
      do {
        await pair.sql("select hark.notify('c')");
        kept = await pair.cut();
        await pair.sql("checkpoint");
        await pair.caughtUp();
        before = await stored();
        // Neither reaches the disk, nor the standby, unless the WAL writer's turn comes just now.
        await once(pair.url, "set synchronous_commit = off; select hark.notify('c')");
        lost = await pair.cut();
        await pair.primary.stop("immediate");
        await pair.primary.start();
      } while (await stored() > before);
      await pair.sql("select hark.notify('c') from generate_series(1, 3)");
      await pair.cut();
      const now = await pair.cut();
      await pair.caughtUp();
      assert.notEqual(lost.split(",")[1], now.split(",")[1], "another life");
      await assert.rejects(pair.page(lost, now), { code: "HK004" });
      const [{ mark }] = await pair.there(
        "select hark.content_of(hark.resume_mark($1::hark.marks)) as mark",
        [lost],
      );
      assert.equal(mark, kept);
      assert.equal(await pair.page(kept, now), 3);
    },
  },
];

Deno.test("what a standby is read by holds, and fails with each rule broken", async (t) => {
  await using primary = await ownServer({ settings: { wal_writer_delay: "10s" } });
  await using standby = await standbyOf(primary);
  let databases = 0;
  const run = async (rule: Rule, broken?: Break) => {
    const name = `rule_${++databases}`;
    await once(withDatabaseName(primary.url, "template1"), `create database ${name} template hark`);
    const pair = new Pair(primary, standby, name);
    await pair.sql("select hark.incarnation()");
    if (broken !== undefined) await replaceIn(pair.url, broken);
    await pair.caughtUp();
    if (broken === undefined) return await rule.stage(pair);
    await assert.rejects(rule.stage(pair), assert.AssertionError, "the rule is not needed");
  };
  for (const rule of rules) {
    await t.step(rule.promise, () => run(rule));
    for (const broken of rule.breaks) {
      await t.step(`${rule.promise}: not so ${broken.rule}`, () => run(rule, broken));
    }
  }
});
