/**
 * Workers in processes of their own, several for each of several consumers.
 *
 * @module
 */

import { type Child, spawnDeno, type Wait } from "../../harness/mod.ts";
import type { WorkerConfig } from "./worker.ts";

/** A process of the fleet. */
export interface Member {
  readonly name: string;
  readonly consumer: string;
  readonly child: Child;
  readonly config: WorkerConfig;
  /** Set once it has ended, whatever ended it. */
  ended: boolean;
  /** Whether it was told to end. */
  dismissed: boolean;
}

/** Starts a worker. Its sessions are named `name`. */
export function startWorker(url: string, name: string, config: WorkerConfig): Child {
  const named = new URL(url);
  named.searchParams.set("application_name", name);
  return spawnDeno([
    "tests/delivery/_support/worker.ts",
    named.href,
    JSON.stringify({ ...config, connect: { applicationName: name, ...config.connect } }),
  ]);
}

/** Some workers. Disposing of them kills those left. */
export class Fleet implements AsyncDisposable {
  readonly members: Member[] = [];
  readonly #url: string;
  #started = 0;

  constructor(url: string) {
    this.#url = url;
  }

  /** Starts a worker. */
  start(config: WorkerConfig): Member {
    const name = `worker-${++this.#started}`;
    const member: Member = {
      name,
      consumer: config.options?.id ?? "c",
      child: startWorker(this.#url, name, config),
      config,
      ended: false,
      dismissed: false,
    };
    void member.child.ended({ deadline: 3_600_000 }).then(() => member.ended = true);
    this.members.push(member);
    return member;
  }

  /** Those who still run. */
  get running(): Member[] {
    return this.members.filter((member) => !member.ended && !member.dismissed);
  }

  /** Ends one as a crash would. */
  async kill(member: Member): Promise<void> {
    member.dismissed = true;
    member.child.kill("SIGKILL");
    await member.child.ended();
  }

  /** Fails if one has ended that was not told to. */
  assertRunning(): void {
    for (const { name, consumer, child, ended, dismissed } of this.members) {
      if (ended && !dismissed) {
        throw new Error(`${name} of ${consumer} has ended:\n${child.stdout}${child.stderr}`);
      }
    }
  }

  /** Has all end in order, and fails where one does not. */
  async stop(wait: Wait = {}): Promise<void> {
    const running = this.running;
    for (const member of running) {
      member.dismissed = true;
      member.child.kill("SIGTERM");
    }
    for (const { name, child } of running) {
      const { code } = await child.ended({ deadline: 20_000, what: `${name} to stop`, ...wait });
      if (code !== 0 || !/^stopped/m.test(child.stdout)) {
        throw new Error(`${name} ended with code ${code}:\n${child.stdout}${child.stderr}`);
      }
    }
  }

  /** Kills those left. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const member of this.members) {
      member.dismissed = true;
      await member.child[Symbol.asyncDispose]();
    }
  }
}
