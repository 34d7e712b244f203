/**
 * One pass of the bench of telemetry, as a process of its own: publishes, then replays what is there.
 * Prints the time and the CPU time of each, in µs a notification.
 *
 * @module
 */

import process from "node:process";

/** What a pass is given. */
export interface Pass {
  readonly url: string;
  /** The module to import as Hark. */
  readonly hark: string;
  readonly telemetry: "off" | "monitor" | "otel";
  readonly count: number;
  readonly name: string;
}

/** What it gives, in µs a notification. */
export interface Times {
  readonly publish: number;
  readonly publishCpu: number;
  readonly replay: number;
  readonly replayCpu: number;
}

const pass: Pass = JSON.parse(Deno.args[0]!);
const { connect, Consumer, notify }: typeof import("@hark/postgres") = await import(pass.hark);
if (pass.telemetry === "otel") (await import("@hark/postgres/otel")).telemetry();
if (pass.telemetry === "monitor") (await import("@hark/postgres/metrics")).monitor();
const db = await connect(pass.url, { poolSize: 1 });

async function timed(work: () => Promise<unknown>): Promise<{ wall: number; cpu: number }> {
  const before = process.cpuUsage();
  const begun = performance.now();
  await work();
  const wall = (performance.now() - begun) * 1000 / pass.count;
  const { user, system } = process.cpuUsage(before);
  return { wall, cpu: (user + system) / pass.count };
}

const publish = async () => {
  for (let i = 0; i < pass.count; i++) {
    await notify(db, pass.name, { i }, { key: `key-${i % 100}` });
  }
};
const replay = () =>
  new Consumer(db, { id: pass.name, channels: pass.name, handle: ({ payload }) => payload })
    .drain();
const published = await timed(publish);
const replayed = await timed(replay);
const times: Times = {
  publish: published.wall,
  publishCpu: published.cpu,
  replay: replayed.wall,
  replayCpu: replayed.cpu,
};
console.log(JSON.stringify(times));
await db.close();
