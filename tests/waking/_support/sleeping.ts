/**
 * Consumers that sleep, with a poll so rare that a wake-up that was lost is seen.
 *
 * @module
 */

import assert from "node:assert/strict";
import { connect, type ConsumerOptions, type Database } from "../../../mod.ts";
import { Running, type Sql } from "../../faults/_support/running.ts";
import { type Client, patient, until } from "../../harness/mod.ts";
import { type Lab, replaceIn } from "../../windows/_support/staging.ts";

/** Far more than anything here takes that is woken. */
export const RARELY = patient(30_000);
/** How long a test waits for what has been woken. */
const SOON = 4_000;
/** How long it waits where nothing is to be woken, as a rule is broken: that has to come to nothing. */
const IN_VAIN = 1_500;

/** Waits until this many sleep on a channel. */
export async function asleep(on: Sql, count = 1, channel = "c"): Promise<void> {
  await until(async () => {
    const [row] = await on.sql(
      "select count(*)::int as count from hark.sleepers where channel = $1 and until > clock_timestamp()",
      [channel],
    );
    return row.count === count;
  }, { what: `${count} to sleep on "${channel}"` });
}

/** Waits until no reader has asked the database anything for a moment. */
export async function quiet(on: Sql, ms = 250): Promise<void> {
  await until(async () => {
    const [row] = await on.sql(
      `select bool_and(state = 'idle' and state_change < clock_timestamp() - interval '${ms} ms') as quiet
       from pg_stat_activity where datname = current_database() and application_name = 'hark'`,
    );
    return row.quiet;
  }, { what: "the readers to be quiet" });
}

/** A consumer in a staging. Disposing of it stops it. */
export class Sleeper implements AsyncDisposable {
  constructor(readonly db: Database, readonly running: Running, readonly lab: Lab) {}

  static async start(lab: Lab, options: Partial<ConsumerOptions> = {}): Promise<Sleeper> {
    const db = await connect(lab.url);
    return new Sleeper(db, new Running(db, { pollInterval: RARELY, ...options } as never), lab);
  }

  /** Starts one, and waits until it sleeps. */
  static async asleep(lab: Lab, options: Partial<ConsumerOptions> = {}): Promise<Sleeper> {
    const sleeper = await Sleeper.start(lab, options);
    await asleep(lab);
    await quiet(lab);
    return sleeper;
  }

  /** Fails unless this has been delivered, and nothing else, long before the next poll. */
  async isGiven(...payloads: unknown[]): Promise<void> {
    await this.isGivenWithin(this.lab.isBroken ? IN_VAIN : SOON, ...payloads);
  }

  /** The same, where it may take longer. */
  async isGivenWithin(deadline: number, ...payloads: unknown[]): Promise<void> {
    const exact = this.lab.isBroken ? deadline / patient(1) : deadline;
    await this.running.atLeast(payloads.length, { deadline: exact }).catch(() => {});
    assert.deepEqual(this.running.payloads, payloads, "what was delivered without a poll");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.running[Symbol.asyncDispose]();
    await this.db[Symbol.asyncDispose]();
  }
}

/** Who hears each NOTIFY of publishers. */
export class Ears {
  readonly heard: string[] = [];

  constructor(readonly client: Client) {
    client.on("notification", ({ payload }) => this.heard.push(payload ?? ""));
  }

  static async open(client: Client): Promise<Ears> {
    const ears = new Ears(client);
    await client.query("listen hark");
    return ears;
  }

  /** What was heard until now. */
  async soFar(): Promise<string[]> {
    await this.client.query("select 1"); // what was sent before this comes before its answer
    return this.heard;
  }
}

/** Has hark.notify wait in its insert for {@linkcode Lab.gate}. */
export async function slowly(lab: Lab): Promise<void> {
  await replaceIn(lab.url, {
    rule: "",
    in: "hark.notify",
    from: "values (pg_catalog.pg_current_xact_id(),",
    to: `values ((select pg_catalog.pg_current_xact_id()
      from pg_catalog.pg_advisory_xact_lock_shared(77)),`,
  });
}
