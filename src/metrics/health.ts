/**
 * Whether a process is alive, and whether it is ready.
 *
 * @module
 */

import type { RunState } from "../observe/run.ts";
import { connectedDatabases, seam } from "../observe/seam.ts";

/** A run of a consumer, as probes tell of it. */
export interface RunHealth {
  readonly consumer: string;
  readonly worker: string;
  readonly state: RunState;
  /** Whether certainly no other worker has taken over. */
  readonly holdsLease: boolean;
  readonly partitions: number;
  readonly inFlight: number;
  /** How many ms ago its loop last turned. */
  readonly turned: number;
}

/** How a process is. */
export interface Health {
  readonly runs: readonly RunHealth[];
  /** How many LISTEN connections deliver, and how many do not, so that readers poll. */
  readonly listening: number;
  readonly polling: number;
  /** Threads that give no answer. */
  readonly silent: readonly string[];
}

/** What a probe answers. */
export interface Verdict {
  readonly ok: boolean;
  /** What is wrong, a sentence each. */
  readonly problems: readonly string[];
}

/** How this process, or this thread, is now. */
export function healthNow(): Health {
  const now = performance.now();
  const heard = connectedDatabases().map(({ listening }) => listening);
  return {
    runs: [...seam.runs].map((run) => ({
      consumer: run.consumer,
      worker: run.worker,
      state: run.state,
      holdsLease: run.holdsLease,
      partitions: run.partitions,
      inFlight: run.inFlight,
      turned: Math.round(now - run.turnedAt),
    })),
    listening: heard.filter((one) => one === true).length,
    polling: heard.filter((one) => one === false).length,
    silent: [],
  };
}

/** Puts the health of threads together. */
export function healthOf(parts: readonly Health[]): Health {
  const sum = (of: (part: Health) => number) => parts.reduce((all, part) => all + of(part), 0);
  return {
    runs: parts.flatMap(({ runs }) => runs),
    listening: sum(({ listening }) => listening),
    polling: sum(({ polling }) => polling),
    silent: parts.flatMap(({ silent }) => silent),
  };
}

/**
 * Alive: the loop of each run turns. One that waits for a connection is alive, however long it waits: to
 * start the process again would help neither it nor the database.
 */
export function liveness({ runs, silent }: Health, maxSilence: number): Verdict {
  const stuck = runs.filter(({ turned, state }) =>
    turned > maxSilence && state !== "starting" && state !== "reconnecting" && state !== "asleep"
  );
  return verdict([
    ...silent.map((name) => `${name} does not answer`),
    ...stuck.map(({ consumer, turned }) =>
      `the loop of ${consumer} has not turned for ${Math.round(turned / 1000)} s`
    ),
  ]);
}

/**
 * Ready: at least one consumer runs, and each sleeps, or has a connection and serves partitions under a
 * lease or stands by.
 */
export function readiness({ runs, silent }: Health): Verdict {
  const problems = silent.map((name) => `${name} does not answer`);
  if (runs.length === 0) problems.push("no consumer runs");
  for (const { consumer, state, holdsLease } of runs) {
    if (state === "asleep") continue;
    if (state !== "serving" && state !== "standing by") problems.push(`${consumer} is ${state}`);
    else if (!holdsLease) problems.push(`${consumer} holds no lease`);
  }
  return verdict(problems);
}

function verdict(problems: readonly string[]): Verdict {
  return { ok: problems.length === 0, problems };
}
