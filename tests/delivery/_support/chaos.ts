/**
 * What befalls workers and their server while they work.
 *
 * @module
 */

import { join } from "node:path";
import { type OwnServer, PROJECT, until } from "../../harness/mod.ts";
import type { Fleet, Member } from "./fleet.ts";
import { random } from "./publishers.ts";

type Fault = "kill" | "freeze" | "terminate" | "crash" | "restart";

/** One of each first, so that a short run has them all. */
const plan: readonly Fault[] = ["kill", "freeze", "terminate", "crash", "kill", "restart"];

/** How long, from the environment; a run of the suite is short. */
export function seconds(): number {
  return Number(Deno.env.get("HARK_LEDGER_SECONDS") ?? 12);
}

/** What decides over chance, from the environment, to have a run again. */
export function seed(): number {
  return Number(Deno.env.get("HARK_LEDGER_SEED") ?? Math.floor(Math.random() * 1e6));
}

/** Kills, freezes and cuts off members of a fleet, and restarts their server. */
export class Chaos {
  /** What was done, in words. */
  readonly log: string[] = [];
  /** How often a worker of a consumer may have been taken over from, or have begun again. */
  readonly interruptions = new Map<string, number>();
  readonly #server: OwnServer;
  readonly #fleet: Fleet;
  readonly #lease: number;
  readonly #dice: () => number;

  constructor(server: OwnServer, fleet: Fleet, lease: number, seed: number) {
    this.#server = server;
    this.#fleet = fleet;
    this.#lease = lease;
    this.#dice = random(seed);
  }

  /** One fault after another until the time is over. */
  async run(ms: number): Promise<void> {
    const end = performance.now() + ms;
    for (let n = 0; performance.now() < end; n++) {
      await this.#one(plan[n] ?? plan[Math.floor(this.#dice() * plan.length)]!);
      await pause(300 + this.#dice() * 700);
      this.#fleet.assertRunning();
    }
  }

  async #one(fault: Fault): Promise<void> {
    const members = this.#fleet.running;
    const member = members[Math.floor(this.#dice() * members.length)]!;
    switch (fault) {
      case "kill":
        this.#note(`kill -9 ${member.name}`, member, 1);
        await this.#fleet.kill(member);
        this.#fleet.start(member.config);
        break;
      case "freeze":
        // Two: its successor repeats what it had not stored, and so does it, before it knows better.
        this.#note(`freeze ${member.name}`, member, 2);
        member.child.kill("SIGSTOP");
        await pause(this.#lease + 500 + this.#dice() * 1000);
        member.child.kill("SIGCONT");
        this.log.push(`${clock()} thaw ${member.name}`);
        break;
      case "terminate":
        this.#note(`terminate the sessions of ${member.name}`, member, 1);
        await this.#terminate(member, this.#dice() < 0.5);
        break;
      case "crash":
        for (const each of members) this.#note("", each, 1);
        this.log.push(`${clock()} crash`);
        await this.#server.kill();
        await this.#server.start();
        break;
      case "restart": {
        const mode = this.#dice() < 0.5 ? "immediate" : "fast";
        for (const each of members) this.#note("", each, 1);
        this.log.push(`${clock()} restart, ${mode}`);
        await this.#server.restart(mode);
        break;
      }
    }
  }

  async #terminate(member: Member, all: boolean): Promise<void> {
    await this.#server.sql(
      `select pg_terminate_backend(pid) from (
        select pid from pg_stat_activity where application_name = $1 order by random() limit $2
      ) a`,
      [member.name, all ? 100 : 1],
    );
  }

  #note(what: string, { consumer }: Member, times: number): void {
    if (what !== "") this.log.push(`${clock()} ${what} of ${consumer}`);
    this.interruptions.set(consumer, (this.interruptions.get(consumer) ?? 0) + times);
  }
}

/** Does something, and says on failure what had happened before and what the workers said. */
export async function told(fleet: Fleet, chaos: Chaos, seed: number, body: () => Promise<void>) {
  try {
    await body();
  } catch (error) {
    const lines = fleet.members.map(({ name, consumer, child }) =>
      `--- ${name} of ${consumer}\n${child.stdout}${child.stderr}`
    );
    const path = join(PROJECT, ".hark", `chaos-${seed}.log`);
    await Deno.writeTextFile(path, [...chaos.log, ...lines, ""].join("\n"));
    throw new Error(
      `${error instanceof Error ? error.message : error}\n${chaos.log.join("\n")}\n` +
        `HARK_LEDGER_SEED=${seed}; what the workers said lies in ${path}`,
      { cause: error },
    );
  }
}

/** Waits until every consumer has read, stored and settled all there is. */
export async function settled(server: OwnServer, deadline = 40_000): Promise<void> {
  const what = "all positions to reach the end, and nothing to wait";
  await until(async () => {
    const [row] = await server.sql(
      `select (select sum(unread) from hark.status())::int as unread,
        (select count(*) from hark.waiting)::int as waiting`,
    );
    return row.unread === 0 && row.waiting === 0;
  }, { deadline, what }).catch(async (error) => {
    const left = await Promise.all(
      [
        "select * from hark.status()",
        "select * from hark.partitions where owner is not null",
        "select * from hark.workers",
        "select consumer, id, partition, key, state, attempts, due_at, clock_timestamp() as now from hark.waiting limit 20",
        "select * from hark.done limit 20",
        "select pid, application_name, state, wait_event, left(query, 80) as query, query_start from pg_stat_activity where backend_type = 'client backend'",
      ].map((sql) => server.sql(sql)),
    );
    throw new Error(`${error.message}\n${Deno.inspect(left, { depth: 4, iterableLimit: 50 })}`);
  });
}

function clock(): string {
  return new Date().toISOString().slice(17, 23);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
