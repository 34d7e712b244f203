/**
 * Which test files a run takes, and in which programs they run.
 *
 * @module
 */

import { join, relative } from "node:path";
import { PROJECT } from "./harness/files.ts";

/**
 * What `deno task test:faults` runs and `deno task test` leaves out: crashes, chaos, servers that are
 * made, stopped and killed, huge rows, bursts and loads, servers with other defaults, long sleeps, and
 * interleavings, each also with its rules broken. A folder or a file each.
 */
const FAULTS: readonly string[] = [
  "tests/faults",
  "tests/embedded",
  "tests/changes/kinds_servers_test.ts",
  "tests/changes/rebuild_test.ts",
  "tests/changes/wide_test.ts",
  "tests/cli/embedded_test.ts",
  "tests/cli/workers_test.ts",
  "tests/consume/common_faults_test.ts",
  "tests/consume/memory_test.ts",
  "tests/delivery/common_random_test.ts",
  "tests/delivery/crash_test.ts",
  "tests/delivery/exactly_once_test.ts",
  "tests/delivery/fair_test.ts",
  "tests/delivery/large_test.ts",
  "tests/delivery/ledger_test.ts",
  "tests/delivery/memory_test.ts",
  "tests/delivery/poison_test.ts",
  "tests/delivery/unreadable_test.ts",
  "tests/delivery/zombie_test.ts",
  "tests/edge/suspend_test.ts",
  "tests/schema/plans_test.ts",
  "tests/schema/settings_test.ts",
  "tests/segments/cleaning_test.ts",
  "tests/telemetry/processes_test.ts",
  "tests/waking/crash_test.ts",
  "tests/waking/load_test.ts",
  "tests/waking/races_test.ts",
  "tests/waking/row_test.ts",
  "tests/windows/crash_test.ts",
  "tests/windows/cut_test.ts",
  "tests/windows/divided_test.ts",
  "tests/windows/interleavings_test.ts",
  "tests/windows/keyed_test.ts",
  "tests/windows/loss_table_test.ts",
  "tests/windows/marks_test.ts",
  "tests/windows/orders_test.ts",
  "tests/windows/page_test.ts",
  "tests/windows/partitioned_test.ts",
  "tests/windows/restore_test.ts",
  "tests/windows/standby_test.ts",
  "tests/windows/start_test.ts",
  "tests/windows/takeover_test.ts",
];

/** A test waits more than it works, so more programs run side by side than there are cores. */
const JOBS = 6;

/**
 * How large the programs are beside each other, in the order in which they begin. The last ones are small, so
 * that all jobs have work to the end. A program takes half a second to load, whatever it tests.
 */
const SHARES: readonly number[] = [
  ...Array.from({ length: 2 * JOBS }, () => 1),
  ...Array.from({ length: JOBS }, () => 0.4),
];

/** How long a test takes that no run has measured here, in ms. */
const GUESS = 700;

/** Files that take another time than their number of tests lets one guess, in seconds on two cores. */
const SLOW: Readonly<Record<string, number>> = {
  "tests/changes/backfill_test.ts": 16,
  "tests/changes/drift_test.ts": 15,
  "tests/changes/kinds_servers_test.ts": 20,
  "tests/changes/owner_test.ts": 16,
  "tests/changes/types_test.ts": 13,
  "tests/changes/wide_test.ts": 14,
  "tests/cli/connection_test.ts": 9,
  "tests/cli/embedded_test.ts": 67,
  "tests/cli/libpq_test.ts": 10,
  "tests/cli/listen_test.ts": 30,
  "tests/cli/new_test.ts": 14,
  "tests/cli/watch_test.ts": 19,
  "tests/cli/workers_test.ts": 45,
  "tests/consume/ahead_test.ts": 13,
  "tests/consume/common_faults_test.ts": 18,
  "tests/consume/common_test.ts": 28,
  "tests/consume/live_edge_test.ts": 23,
  "tests/consume/memory_test.ts": 30,
  "tests/consume/one_session_test.ts": 19,
  "tests/consume/options_test.ts": 1,
  "tests/consume/queue_test.ts": 15,
  "tests/consume/shared_test.ts": 24,
  "tests/dashboard/pages_test.ts": 70,
  "tests/dashboard/troubles_test.ts": 44,
  "tests/delivery/damaged_test.ts": 10,
  "tests/delivery/exactly_once_test.ts": 24,
  "tests/delivery/fair_test.ts": 17,
  "tests/delivery/handler_session_test.ts": 14,
  "tests/delivery/handover_test.ts": 12,
  "tests/delivery/hurried_test.ts": 21,
  "tests/delivery/large_test.ts": 36,
  "tests/delivery/ledger_test.ts": 17,
  "tests/delivery/poison_test.ts": 29,
  "tests/delivery/rebalance_test.ts": 9,
  "tests/delivery/thrown_test.ts": 21,
  "tests/delivery/unreadable_test.ts": 9,
  "tests/delivery/waiting_test.ts": 11,
  "tests/delivery/zombie_test.ts": 14,
  "tests/docs/docs_test.ts": 68,
  "tests/edge/deadline_test.ts": 23,
  "tests/edge/handler_test.ts": 14,
  "tests/edge/sleep_test.ts": 21,
  "tests/edge/suspend_test.ts": 32,
  "tests/embedded/account_test.ts": 16,
  "tests/embedded/crash_test.ts": 35,
  "tests/embedded/npm_test.ts": 10,
  "tests/embedded/permissions_test.ts": 19,
  "tests/embedded/start_test.ts": 35,
  "tests/examples/changes_test.ts": 12,
  "tests/examples/examples_test.ts": 34,
  "tests/faults/backlog_test.ts": 10,
  "tests/faults/browser_test.ts": 9,
  "tests/faults/drain_test.ts": 15,
  "tests/faults/failover_test.ts": 33,
  "tests/faults/frozen_test.ts": 23,
  "tests/faults/live_edge_crash_test.ts": 17,
  "tests/faults/outage_test.ts": 57,
  "tests/faults/pooler_served_test.ts": 21,
  "tests/faults/pooler_test.ts": 17,
  "tests/faults/positions_test.ts": 30,
  "tests/faults/relay_test.ts": 105,
  "tests/faults/renewal_test.ts": 61,
  "tests/faults/replica_cli_test.ts": 28,
  "tests/faults/replica_faults_test.ts": 93,
  "tests/faults/replica_rules_test.ts": 63,
  "tests/faults/replica_tail_test.ts": 30,
  "tests/faults/replica_test.ts": 81,
  "tests/faults/silence_test.ts": 40,
  "tests/faults/soak_test.ts": 10,
  "tests/faults/standby_test.ts": 19,
  "tests/faults/stop_test.ts": 21,
  "tests/faults/takeover_test.ts": 29,
  "tests/operate/dead_letters_test.ts": 13,
  "tests/operate/doctor_test.ts": 29,
  "tests/publish/conformance_test.ts": 16,
  "tests/relay/astray_test.ts": 10,
  "tests/relay/webhooks_test.ts": 22,
  "tests/runtimes/runtimes_test.ts": 34,
  "tests/schema/pglite_test.ts": 35,
  "tests/schema/plans_test.ts": 110,
  "tests/schema/settings_test.ts": 45,
  "tests/segments/cleaning_test.ts": 17,
  "tests/telemetry/processes_test.ts": 21,
  "tests/testing/testing_test.ts": 78,
  "tests/waking/load_test.ts": 32,
  "tests/waking/races_test.ts": 93,
  "tests/waking/row_test.ts": 26,
  "tests/windows/crash_test.ts": 51,
  "tests/windows/cut_test.ts": 16,
  "tests/windows/divided_test.ts": 13,
  "tests/windows/floor_test.ts": 13,
  "tests/windows/interleavings_test.ts": 50,
  "tests/windows/keyed_test.ts": 18,
  "tests/windows/loss_table_test.ts": 62,
  "tests/windows/marks_test.ts": 36,
  "tests/windows/orders_test.ts": 45,
  "tests/windows/page_test.ts": 23,
  "tests/windows/partitioned_test.ts": 18,
  "tests/windows/restore_test.ts": 37,
  "tests/windows/takeover_test.ts": 14,
};

/** What a run is about. */
export interface Selection {
  /** The test files, relative to the project's folder. */
  readonly files: readonly string[];
  /** What `deno test` is given besides. */
  readonly flags: readonly string[];
}

/** Reads the arguments: files and folders that exist, `--faults`, and flags of `deno test`. */
export async function selected(args: readonly string[]): Promise<Selection> {
  const paths: string[] = [];
  const flags: string[] = [];
  for (const [i, arg] of args.entries()) {
    if (arg === "--faults") continue;
    const isPath = !arg.startsWith("-") && args[i - 1] !== "--filter" && await isThere(arg);
    (isPath ? paths : flags).push(arg);
  }
  const faults = args.includes("--faults");
  const files = paths.length > 0
    ? (await Promise.all(paths.map(testsIn))).flat()
    : (await testsIn("tests")).filter((file) => isFault(file) === faults);
  return { files, flags };
}

function isFault(file: string): boolean {
  return FAULTS.some((place) => file === place || file.startsWith(`${place}/`));
}

async function isThere(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

async function testsIn(path: string): Promise<string[]> {
  if (!(await Deno.stat(path)).isDirectory) return [relative(PROJECT, await Deno.realPath(path))];
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(path)) {
    if (isDirectory || name.endsWith("_test.ts")) found.push(...await testsIn(join(path, name)));
  }
  return found.sort();
}

/** The programs that `deno test` is to run, and how many of them at a time. */
export interface Plan {
  readonly programs: readonly string[];
  readonly jobs: number;
}

/**
 * Divides test files among programs, each of which imports several: a file that is a program of its own
 * would load Hark and the harness once more. A few files run as they are.
 */
export async function plan(
  files: readonly string[],
  run: string,
  times: ReadonlyMap<string, number>,
): Promise<Plan> {
  if (files.length <= JOBS) return { programs: files, jobs: JOBS };
  const weighed = await Promise.all(files.map(async (file) => {
    const tests = (await Deno.readTextFile(join(PROJECT, file))).match(/^ *(Deno\.)?test\(/gm);
    const guess = (SLOW[file] ?? 0) * 1000 || (tests?.length ?? 1) * GUESS;
    return { file, weight: times.get(file) ?? guess };
  }));
  weighed.sort((a, b) => b.weight - a.weight);
  const programs = SHARES.map((share) => ({ share, weight: 0, files: [] as string[] }));
  for (const { file, weight } of weighed) {
    const after = (program: typeof programs[number]) => (program.weight + weight) / program.share;
    const lightest = programs.reduce((a, b) => after(b) < after(a) ? b : a);
    lightest.weight += weight;
    lightest.files.push(file);
  }
  const folder = entriesOf(run);
  await Deno.mkdir(folder, { recursive: true });
  const paths: string[] = [];
  for (const [i, program] of programs.entries()) {
    if (program.files.length === 0) continue;
    const path = join(folder, `${String(i + 1).padStart(2, "0")}.ts`);
    const imports = program.files.map((file) =>
      `await load(${JSON.stringify(file)}, () => import("../../${file}"));\n`
    );
    await Deno.writeTextFile(
      path,
      `import { load } from "../../tests/harness/load.ts";\n${imports.join("")}`,
    );
    paths.push(path);
  }
  return { programs: paths, jobs: JOBS };
}

function entriesOf(run: string): string {
  return join(PROJECT, ".hark", `${run}_programs`);
}

/** Removes what {@linkcode plan} wrote. */
export async function removeEntries(run: string): Promise<void> {
  await Deno.remove(entriesOf(run), { recursive: true }).catch(() => {});
}
