/**
 * Takes the steps of publishers and of those that make marks in a given order.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type Client, connect, disconnect, type OwnServer, until } from "../../harness/mod.ts";
import type { Actors } from "./orders.ts";
import { RegisteredReader, UnregisteredReader } from "./reader.ts";
import { type Break, replaceIn } from "./staging.ts";

/** Where the making of a mark stops: before it reads the sequence, and before it takes its number. */
const gates = [1, 2] as const;
const gate = (number: number) =>
  `if coalesce(current_setting('hark.steps', true), '') <> '' then
     perform pg_advisory_xact_lock_shared(88, current_setting('hark.steps')::integer + ${number});
   end if;`;
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

/** Puts the stops into the functions of a server. */
export async function prepare(server: OwnServer): Promise<void> {
  for (const stop of stops) await replaceIn(server.url, stop);
  // Asking again from here would take longer than the steps.
  await server.sql(`create function public.waits(pid integer) returns boolean language plpgsql as $$
    begin
      for n in 1..20 loop
        if exists (select from pg_locks l where l.pid = $1 and not l.granted) then return true; end if;
        perform pg_sleep(0.0002);
      end loop;
      return false;
    end $$`);
}

/** A session that makes marks. */
class Maker {
  making: Promise<string> | undefined;
  /** How many of its steps it has taken. */
  taken = 0;
  isOver = false;
  constructor(readonly client: Client, readonly pid: number, readonly first: number) {}
}

/** The sessions of the actors, and a reader that reads to each mark that they make. */
export class Stage implements AsyncDisposable {
  readonly #server: OwnServer;
  readonly #actors: Actors;
  readonly #makers = new Map<string, Maker>();
  readonly #publishers = new Map<string, Client>();
  readonly #holder: Client;
  readonly #reading: Client;
  #registered: RegisteredReader | undefined;

  private constructor(server: OwnServer, actors: Actors, holder: Client, reading: Client) {
    this.#server = server;
    this.#actors = actors;
    this.#holder = holder;
    this.#reading = reading;
  }

  static async open(server: OwnServer, actors: Actors): Promise<Stage> {
    const stage = new Stage(server, actors, await connect(server.url), await connect(server.url));
    for (const [name, steps] of Object.entries(actors)) {
      const client = await connect(server.url);
      if (!steps.includes("snapshot")) {
        stage.#publishers.set(name, client);
        continue;
      }
      const first = 10 * stage.#makers.size;
      const { rows: [{ pid }] } = await client.query(
        "select pg_backend_pid() as pid, set_config('hark.steps', $1, false)",
        [String(first)],
      );
      stage.#makers.set(name, new Maker(client, pid, first));
    }
    return stage;
  }

  /** Has a registered consumer read, which leaves its position in the database. */
  async register(): Promise<RegisteredReader> {
    const consumer = `r${crypto.randomUUID()}`;
    return this.#registered = await RegisteredReader.open(this.#reading, consumer, ["c"]);
  }

  /** Takes the steps. Then the reader reads what is left, and has read each notification once. */
  async run(order: readonly string[], end: "drain" | "crash" = "drain"): Promise<void> {
    const reader = this.#registered ??
      await UnregisteredReader.open(this.#reading, ["c"], { kind: "now" });
    const makers = [...this.#makers.values()];
    for (const maker of makers) {
      maker.taken = 0;
      maker.isOver = false;
    }
    await this.#holder.query(
      "select pg_advisory_lock(88, f + g) from unnest($1::integer[]) f, unnest($2::integer[]) g",
      [makers.map(({ first }) => first), gates],
    );
    const taken = new Map<string, number>();
    const ids: number[] = [];
    try {
      for (const name of order) {
        const maker = this.#makers.get(name);
        if (maker !== undefined) {
          await this.#make(maker, this.#actors[name]!.length, reader);
          continue;
        }
        const at = taken.get(name) ?? 0;
        taken.set(name, at + 1);
        const id = await this.#publish(this.#publishers.get(name)!, this.#actors[name]![at]!);
        if (id !== undefined) ids.push(id);
      }
      if (end === "crash") return;
    } finally {
      if (end === "crash") await this.#server.kill();
      else await this.#holder.query("select pg_advisory_unlock_all()");
      await Promise.allSettled(makers.map(({ making }) => making));
    }
    await reader.drain();
    const given = reader.delivered.map(({ id }) => id).sort((a, b) => a - b);
    assert.deepEqual(given, ids.sort((a, b) => a - b), order.join(", "));
  }

  async #publish(client: Client, step: string): Promise<number | undefined> {
    if (step === "commit") return void await client.query("commit");
    if (step === "number") return void await client.query("begin; select pg_current_xact_id()");
    if (step === "number and id") await client.query("begin");
    const { rows: [{ id }] } = await client.query("select hark.notify('c') as id");
    return Number(id);
  }

  /** Takes a step of a mark. After the last of them the reader reads to it, if it is later. */
  async #make(maker: Maker, steps: number, reader: RegisteredReader | UnregisteredReader) {
    const step = maker.taken++;
    if (step === 0) {
      maker.making = maker.client.query(
        "select hark.content_of(hark.new_mark(false, private => $1)) as mark",
        [steps === 2],
      ).then(({ rows: [{ mark }] }) => mark);
      maker.making.catch(() => {}).finally(() => maker.isOver = true);
    } else {
      await this.#holder.query("select pg_advisory_unlock(88, $1)", [maker.first + step]);
    }
    if (step < steps - 1) {
      await until(async () => {
        if (maker.isOver) return true; // one that stores nothing does not get to its number
        const { rows: [{ waits }] } = await this.#holder.query("select public.waits($1)", [
          maker.pid,
        ]);
        return waits || maker.isOver;
      }, { what: "the mark to stop" });
      return;
    }
    const mark = await maker.making!;
    const { rows: [{ later }] } = await this.#holder.query(
      `select (t).upper > (s).upper or (t).upper = (s).upper and (t).running < (s).running as later
       from (select $1::hark.marks as s, $2::hark.marks as t) m`,
      [reader.position.seen, mark],
    );
    if (!later) return;
    reader.position = { ...reader.position, target: mark, lastId: null };
    await reader.window();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const clients = [this.#holder, this.#reading, ...this.#publishers.values()];
    for (const { client } of this.#makers.values()) clients.push(client);
    await Promise.all(clients.map(disconnect));
  }
}
