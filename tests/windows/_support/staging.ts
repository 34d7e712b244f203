/**
 * Interleavings staged by hand on a server where no other session takes a transaction number, and proof
 * that each fails where the rule it is about is broken.
 *
 * @module
 */

import assert from "node:assert/strict";
import {
  type Client,
  connect,
  disconnect,
  once,
  type OwnServer,
  ownServer,
  type Row,
  until,
  withDatabaseName,
} from "../../harness/mod.ts";

/** A rule taken away: text of a function replaced, in the staging's own database. */
export interface Break {
  /** What is missing then. */
  readonly rule: string;
  /** The function, for example "hark.new_mark". */
  readonly in?: string;
  /** Text of its definition that has to be there once. */
  readonly from?: string;
  readonly to?: string;
  /** More text that is replaced, of the same function unless another is named. */
  readonly also?: { readonly in?: string; readonly from: string; readonly to: string };
  /** For rules that the reader keeps, not the SQL: see {@linkcode Lab.broken}. */
  readonly flag?: string;
}

/** A promise, the interleaving that puts it to the test, and what it fails without. */
export interface Staging {
  readonly promise: string;
  readonly breaks?: readonly Break[];
  readonly stage: (lab: Lab) => Promise<void>;
}

/** A transaction of a publisher, in the hands of the test. */
export class Writer {
  constructor(readonly client: Client) {}
  /** Takes the transaction's number, and gives it. */
  async number(): Promise<string> {
    return (await this.client.query("select pg_current_xact_id()::text as x")).rows[0].x;
  }
  /** Publishes, and gives the id. */
  async notify(payload: unknown = {}, channel = "c", key: string | null = null): Promise<number> {
    const { rows: [row] } = await this.client.query("select hark.notify($1, $2, $3) as id", [
      channel,
      JSON.stringify(payload),
      key,
    ]);
    return Number(row.id);
  }
  async commit(): Promise<void> {
    await this.client.query("commit");
  }
  async rollback(): Promise<void> {
    await this.client.query("rollback");
  }
}

/** What a staging works with: a database of its own. */
export class Lab {
  readonly #clients: Client[] = [];
  /** Connections of {@linkcode Lab.sql} that can be used again. */
  #idle: Client[] = [];
  constructor(
    readonly url: string,
    readonly server: OwnServer,
    readonly rule: Break | undefined,
  ) {}

  /** Whether a rule is broken, so that what the staging waits for should not come. */
  get isBroken(): boolean {
    return this.rule !== undefined;
  }

  /** Whether a rule that the reader keeps is to be broken. */
  broken(flag: string): boolean {
    return this.rule?.flag === flag;
  }
  /** Opens a connection. */
  async client(url = this.url): Promise<Client> {
    const client = await connect(url);
    this.#clients.push(client);
    client.once("end", () => this.#idle = this.#idle.filter((one) => one !== client));
    return client;
  }
  /** Begins a transaction that publishes. It has no number yet. */
  async writer(): Promise<Writer> {
    const client = await this.client();
    await client.query("begin");
    return new Writer(client);
  }
  /** Publishes a number in one transaction. */
  async publish(count: number, channel = "c"): Promise<void> {
    await this.sql("select hark.notify($1) from generate_series(1, $2)", [channel, count]);
  }
  /** Runs a statement outside of any transaction, on a connection where nothing else runs. */
  async sql(text: string, values?: unknown[]): Promise<Row[]> {
    const client = this.#idle.pop() ?? await this.client();
    const { rows } = await client.query(text, values);
    this.#idle.push(client);
    return rows;
  }
  /** Starts `run`, waits until it waits for a lock (or has ended), does `between`, and lets it go on. */
  async held<T>(
    gate: () => Promise<Client>,
    run: () => Promise<T>,
    between: () => Promise<void>,
  ) {
    const holder = await gate();
    let over = false;
    const running = run().finally(() => over = true);
    running.catch(() => {});
    await until(async () => {
      const [row] = await this.sql(
        `select exists (select from pg_locks where not granted and database = (
           select oid from pg_database where datname = current_database())) as waiting`,
      );
      return over || row.waiting;
    }, { what: "a statement to wait for the gate" });
    await between();
    await holder.query("rollback");
    return await running;
  }
  /** Holds the advisory lock that a broken function waits for with `pause`. */
  readonly gate = async (): Promise<Client> => {
    const client = await this.client();
    await client.query("begin; select pg_advisory_xact_lock(77);");
    return client;
  };
  /** Ends a connection of this staging; the others end with it. */
  async close(client: Client): Promise<void> {
    await disconnect(client);
  }
  async end(): Promise<void> {
    await Promise.all(this.#clients.map(disconnect));
  }
}

/** What a broken function runs to wait for {@linkcode Lab.gate}. */
export const pause = "perform pg_advisory_xact_lock_shared(77);";

/** Replaces text in a function of this database. */
export async function replaceIn(url: string, broken: Break): Promise<void> {
  await replace((text, values) => once(url, text, values), broken);
}

async function replace(sql: Lab["sql"], broken: Break): Promise<void> {
  const [row] = await sql("select pg_get_functiondef($1::regproc) as text", [broken.in]);
  const parts = row.text.split(broken.from);
  assert.equal(parts.length, 2, `${broken.in} has to hold once: ${broken.from}`);
  const { from = "", to = "", in: other } = broken.also ?? {};
  if (other !== undefined) {
    await sql(parts.join(broken.to));
    return await replace(sql, { rule: broken.rule, in: other, from, to });
  }
  const text = parts.join(broken.to);
  assert.ok(text.includes(from), `${broken.in} has to hold: ${from}`);
  await sql(broken.also === undefined ? text : text.replace(from, () => to));
}

let databases = 0;

/** What a staging needs did not come about, so that it proves nothing either way. */
export class NotStaged extends Error {}

/** Stages it, and again where it did not come about. */
async function run(server: OwnServer, staging: Staging, broken?: Break): Promise<void> {
  for (let left = 5;; left--) {
    try {
      return await runOnce(server, staging, broken);
    } catch (error) {
      if (!(error instanceof NotStaged) || left === 0) throw error;
    }
  }
}

async function runOnce(server: OwnServer, staging: Staging, broken?: Break): Promise<void> {
  const name = `staging_${++databases}`;
  await once(
    withDatabaseName(server.url, "template1"),
    `create database ${name} template ${new URL(server.url).pathname.slice(1)} ${copied(server)}`,
  );
  const lab = new Lab(withDatabaseName(server.url, name), server, broken);
  try {
    if (broken?.in !== undefined) await replace(lab.sql.bind(lab), broken);
    // Here rather than in the first cut, whose transaction would take its number earlier for it.
    await lab.sql("select hark.incarnation()");
    if (broken === undefined) await staging.stage(lab);
    else {
      await assert.rejects(staging.stage(lab), (error) => {
        if (error instanceof NotStaged) throw error;
        return error instanceof assert.AssertionError;
      }, "it passes all the same");
    }
  } finally {
    // A prepared transaction outlives its session, and would be met in the stagings that follow.
    for (const { gid } of await lab.sql("select gid from pg_prepared_xacts")) {
      await lab.sql(`rollback prepared '${gid}'`);
    }
    await lab.end();
  }
}

/** How a database is copied: as files, where the version offers it, as nothing is flushed here. */
function copied({ version }: OwnServer): string {
  return Number.parseInt(version) < 15 ? "" : "strategy file_copy";
}

/** Declares a test of stagings on one server of their own: each as it is, and with each rule broken. */
export function stagings(name: string, list: readonly Staging[]): void {
  Deno.test(name, async (t) => {
    await using server = await ownServer({
      settings: {
        autovacuum: "off",
        max_prepared_transactions: "10",
        wal_writer_delay: "10s", // or it flushes what a crash is to take
        bgwriter_delay: "10s",
      },
    });
    for (const staging of list) {
      await t.step(staging.promise, () => run(server, staging));
      for (const broken of staging.breaks ?? []) {
        await t.step(
          `${staging.promise}: not so ${broken.rule}`,
          () => run(server, staging, broken),
        );
      }
    }
  });
}
