/**
 * Every order of the steps of two publishers and of a cut, against the real functions: a reader is given each
 * notification once, although no publisher follows the last of them.
 */

import assert from "node:assert/strict";
import {
  type Client,
  connect,
  disconnect,
  type OwnServer,
  ownServer,
  until,
} from "../harness/mod.ts";
import { UnregisteredReader } from "./_support/reader.ts";
import { type Break, replaceIn } from "./_support/staging.ts";

/** The steps of each actor, in the order in which it takes them. */
const actors = {
  slow: ["number", "publish", "commit"],
  last: ["publish", "commit"],
  cutter: ["snapshot", "sequence", "number and commit"],
} as const;
type Actor = keyof typeof actors;

/** Every order in which the actors can take their steps. */
function orders(left: Readonly<Record<Actor, number>>): Actor[][] {
  const names = (Object.keys(left) as Actor[]).filter((name) => left[name] > 0);
  if (names.length === 0) return [[]];
  return names.flatMap((name) =>
    orders({ ...left, [name]: left[name] - 1 }).map((rest) => [name, ...rest])
  );
}

/** Where a cut stops if it is to: before it reads the sequence, and before it takes its number. */
const gates = [1, 2] as const;
const gate = (number: number) =>
  `if current_setting('hark.steps', true) = 'on' then perform pg_advisory_xact_lock_shared(88, ${number}); end if;`;
const stops: readonly Break[] = [
  {
    rule: "",
    in: "hark.new_mark",
    from: "    m.upper := pg_snapshot_xmax(m.snapshot);",
    to: `    ${gate(1)}\n    m.upper := pg_snapshot_xmax(m.snapshot);`,
  },
  {
    rule: "",
    in: "hark.new_mark",
    from: "  m.fence := pg_current_xact_id();",
    to: `  ${gate(2)}\n  m.fence := pg_current_xact_id();`,
  },
];

class Stage {
  readonly #cutter: Client;
  readonly #holder: Client;
  readonly #reader: Client;
  readonly #publishers: Readonly<Record<"slow" | "last", Client>>;
  #pid = 0;
  #cutting: Promise<unknown> | undefined;
  #over = false;
  #held = new Set<number>();

  constructor([cutter, holder, reader, slow, last]: Client[]) {
    this.#cutter = cutter!;
    this.#holder = holder!;
    this.#reader = reader!;
    this.#publishers = { slow: slow!, last: last! };
  }

  async run(order: readonly Actor[]): Promise<void> {
    await this.#cutter.query("set hark.steps = 'on'");
    this.#pid = (await this.#cutter.query("select pg_backend_pid() as pid")).rows[0].pid;
    const reader = await UnregisteredReader.open(this.#reader, ["c"], { kind: "now" });
    this.#over = false;
    for (const number of gates) {
      await this.#holder.query("select pg_advisory_lock(88, $1)", [number]);
      this.#held.add(number);
    }
    const at = { slow: 0, last: 0, cutter: 0 };
    const ids: number[] = [];
    try {
      for (const actor of order) {
        const step = at[actor]++;
        if (actor === "cutter") {
          await this.#cut(step);
          if (step === actors.cutter.length - 1) await reader.window();
          continue;
        }
        const client = this.#publishers[actor];
        const what = actors[actor][step]!;
        if (step === 0) await client.query("begin");
        if (what === "number") await client.query("select pg_current_xact_id()");
        else if (what === "commit") await client.query("commit");
        else {
          const { rows: [{ id }] } = await client.query("select hark.notify('c') as id");
          ids.push(Number(id));
        }
      }
    } finally {
      await this.#holder.query("select pg_advisory_unlock_all()");
      await this.#cutting;
    }
    await reader.drain();
    assert.deepEqual(
      reader.delivered.map(({ id }) => id).sort((a, b) => a - b),
      ids.sort((a, b) => a - b),
      order.join(", "),
    );
  }

  async #cut(step: number): Promise<void> {
    if (step === 0) {
      this.#cutting = this.#cutter.query("select hark.cut()").finally(() => this.#over = true);
    } else await this.#holder.query("select pg_advisory_unlock(88, $1)", [gates[step - 1]]);
    if (step === gates.length) return void await this.#cutting;
    await until(async () => {
      const { rows: [{ waits }] } = await this.#holder.query(
        "select exists (select from pg_locks where pid = $1 and not granted) as waits",
        [this.#pid],
      );
      return this.#over || waits; // a cut that stores nothing does not get to its number
    }, { what: "the cut to stop" });
  }
}

async function everyOrder(server: OwnServer): Promise<void> {
  for (const stop of stops) await replaceIn(server.url, stop);
  const clients = await Promise.all(Array.from({ length: 5 }, () => connect(server.url)));
  try {
    const stage = new Stage(clients);
    const all = orders({ slow: 3, last: 2, cutter: 3 });
    assert.equal(all.length, 560);
    for (const order of all) await stage.run(order);
  } finally {
    await Promise.all(clients.map(disconnect));
  }
}

async function server(): Promise<OwnServer> {
  const server = await ownServer({ settings: { autovacuum: "off" } });
  await server.sql("select hark.incarnation()");
  return server;
}

Deno.test("in every order of two publishers' steps and a cut's, each notification is read once", async () => {
  await using own = await server();
  await everyOrder(own);
});

const faults: readonly Break[] = [
  {
    rule: "a mark need not be settled to be the last",
    in: "hark.new_mark",
    from: "and last.floor = last.max_id and last.life",
    to: "and last.life",
  },
  {
    rule: "the floor does not lag",
    in: "hark.new_mark",
    from: "m.floor := last.max_id;",
    to: "m.floor := m.max_id;",
  },
];

Deno.test("every order finds each of these faults", async (t) => {
  for (const fault of faults) {
    await t.step(fault.rule, async () => {
      await using own = await server();
      await replaceIn(own.url, fault);
      await assert.rejects(everyOrder(own), assert.AssertionError);
    });
  }
});
