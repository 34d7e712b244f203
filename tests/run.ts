/**
 * Runs the tests: against the server of DATABASE_URL, or against a throwaway one.
 *
 *     deno task test [files, folders and flags of `deno test`]
 *     deno task test:faults
 *
 * The first runs every test but the faults that selection.ts lists, the second those. The last line says how many
 * passed and failed. The exit code is not 0 if one failed, if nothing ran, or if a file could not be
 * loaded.
 *
 * @module
 */

import { statfs } from "node:fs/promises";
import config from "../deno.json" with { type: "json" };
import { connect, disconnect } from "./harness/connect.ts";
import { removePrepared } from "./harness/own_server.ts";
import { dropRun, newRunPrefix } from "./harness/template.ts";
import { startThrowaway, type Throwaway } from "./harness/throwaway.ts";
import { readTimes, Reporter } from "./report.ts";
import { plan, removeEntries, selected } from "./selection.ts";

/** Free bytes that the server's disk needs if the databases of a run stay until its end: 10 MB each. */
const ROOM = 20e9;

/** How the server or this machine says that the disk cannot be seen: by a role's rights, a path, a file's rights. */
const UNSEEN = ["42501", "ENOENT", "EACCES"];

const LOCAL = ["127.0.0.1", "localhost"];

/** How long it takes to connect on a machine that has nothing else to do, in ms. */
const CONNECTING = 50;

async function main(args: string[]): Promise<number> {
  // The terminal sends Ctrl-C to the tests as well: wait for them, then remove what is theirs in order.
  const wait = () => {};
  Deno.addSignalListener("SIGINT", wait);
  let throwaway: Throwaway | undefined;
  const run = newRunPrefix();
  let url = Deno.env.get("DATABASE_URL");
  try {
    if (!url) {
      throwaway = await startThrowaway();
      const { version, port, url: its, memory } = throwaway;
      const where = memory === undefined ? "" : ", its databases in memory";
      console.log(`PostgreSQL ${version}, a throwaway server on port ${port}${where}`);
      url = its;
    }
    const keeps = throwaway?.memory === undefined && await hasRoom(url);
    const report = await runTests(args, url, run, keeps);
    const { passed, failed, skipped } = report.counts ?? { passed: 0, failed: 1, skipped: 0 };
    console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
    return report.code !== 0 ? report.code : failed > 0 || passed === 0 ? 1 : 0;
  } finally {
    if (throwaway === undefined && url) {
      await dropRun(url, run).catch((error) => console.error(error));
    }
    await removeEntries(run);
    await removePrepared(run);
    await throwaway?.[Symbol.asyncDispose]();
    Deno.removeSignalListener("SIGINT", wait);
  }
}

/** Runs them. `keeps` says whether the databases stay until the run's end. */
async function runTests(args: string[], url: string, run: string, keeps: boolean) {
  const host = new URL(url).hostname;
  const colour = Deno.stdout.isTerminal() && !Deno.noColor;
  const { files, flags } = await selected(args);
  const { programs, jobs } = await plan(files, run, await readTimes());
  const child = new Deno.Command("deno", {
    args: [
      "test",
      "--no-prompt",
      // `deno task check` does, once for all.
      "--no-check",
      "--parallel",
      "-P=test",
      "--lock=.hark/dev.lock",
      // A flag replaces the set's own list, so it has to repeat it. See spawnDeno() for the program.
      `--allow-run=${[...config.permissions.test.run, Deno.execPath()].join(",")}`,
      ...(LOCAL.includes(host) ? [] : [`--allow-net=${[...LOCAL, host].join(",")}`]),
      ...flags,
      ...programs,
    ],
    env: {
      DATABASE_URL: url,
      DENO_JOBS: Deno.env.get("DENO_JOBS") ?? String(jobs),
      HARK_TEST_RUN: run,
      ...(keeps ? {} : { HARK_TEST_DROP: "1" }),
      HARK_TEST_PATIENCE: Deno.env.get("HARK_TEST_PATIENCE") ?? String(await patience(url)),
      ...(colour ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" }),
    },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  // What ends the run ends its tests first, whose databases it then drops.
  const end = () => child.kill("SIGTERM");
  Deno.addSignalListener("SIGTERM", end);
  try {
    const reporter = new Reporter();
    await reporter.read(child.stdout);
    const { code } = await child.status;
    return { code, counts: reporter.counts };
  } finally {
    Deno.removeSignalListener("SIGTERM", end);
  }
}

/** Whether the server's disk has room for the databases of a run. One that cannot be seen from here has. */
async function hasRoom(url: string): Promise<boolean> {
  if (!LOCAL.includes(new URL(url).hostname)) return true;
  const client = await connect(url);
  try {
    const { rows: [row] } = await client.query("select current_setting('data_directory') as path");
    const { bavail, bsize } = await statfs(row.path);
    return bavail * bsize > ROOM;
  } catch (error) {
    if (UNSEEN.includes(String((error as { code?: unknown }).code))) return true;
    throw error;
  } finally {
    await disconnect(client);
  }
}

/**
 * How many times longer things may take than for one test on a free machine: four times as tests run side
 * by side, and more if the machine is slow or busy before they begin. A test that passes never waits so long.
 */
async function patience(url: string): Promise<number> {
  const rounds = 5;
  const begun = performance.now();
  for (let n = 0; n < rounds; n++) await disconnect(await connect(url));
  const busy = Math.round((performance.now() - begun) / rounds / CONNECTING);
  return 4 * Math.min(3, Math.max(1, busy));
}

if (import.meta.main) Deno.exit(await main(Deno.args));
