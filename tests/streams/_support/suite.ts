/**
 * Runs the conformance suite of the Durable Streams protocol, as its authors publish it. Installs it below
 * .hark/conformance/.
 *
 * @module
 */

import { fromFileUrl } from "../../harness/files.ts";

const folder = fromFileUrl(new URL("../../../.hark/conformance/", import.meta.url));
const dependencies = { "@durable-streams/server-conformance-tests": "0.3.6", vitest: "4.0.8" };
const program = `import { runConformanceTests } from "@durable-streams/server-conformance-tests";
runConformanceTests({ baseUrl: process.env.CONFORMANCE_TEST_URL });
`;

/** What Hark is not: written over HTTP. Groups, and tests of the other groups, about closing, expiry, forks, and producers. */
const notApplicable =
  /^(TTL|Idempotent Producer|Stream Closure|Fork - |Reserved subscription)|\bseq(uence)?\b|\bTTL\b/;

/** The tests of one group. */
export interface Group {
  readonly name: string;
  passed: number;
  /** The titles of those that failed. */
  readonly failed: string[];
  /** How many test what does not apply to Hark. */
  left: number;
}

interface Result {
  readonly testResults: readonly {
    readonly assertionResults: readonly {
      readonly ancestorTitles: readonly string[];
      readonly title: string;
      readonly status: string;
    }[];
  }[];
}

async function deno(args: readonly string[], env: Record<string, string> = {}): Promise<void> {
  const { code, stderr } = await new Deno.Command("deno", { args: [...args], cwd: folder, env })
    .output();
  // It is 1 if a test has failed.
  if (code > 1) throw new Error(new TextDecoder().decode(stderr));
}

/** Runs all of its tests against the streams at `url`. */
export async function conformance(url: string): Promise<Group[]> {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}package.json`, JSON.stringify({ dependencies }));
  await deno(["install", "--quiet", "--no-lock", "--node-modules-dir=auto"]);
  const file = `${folder}suite.test.mjs`;
  await Deno.writeTextFile(file, program);
  try {
    await run(url);
  } finally {
    await Deno.remove(file); // or `deno task check` would check it
  }
  return groupsOf(JSON.parse(await Deno.readTextFile(`${folder}result.json`)));
}

async function run(url: string): Promise<void> {
  await deno([
    "run",
    "--allow-all",
    "--no-lock",
    "--node-modules-dir=manual",
    "node_modules/vitest/vitest.mjs",
    "run",
    "--reporter=json",
    "--outputFile=result.json",
  ], { CONFORMANCE_TEST_URL: url });
}

function groupsOf({ testResults }: Result): Group[] {
  const groups = new Map<string, Group>();
  for (
    const { ancestorTitles: [name = ""], title, status } of testResults.flatMap((file) =>
      file.assertionResults
    )
  ) {
    const group = groups.get(name) ?? { name, passed: 0, failed: [], left: 0 };
    groups.set(name, group);
    if (notApplicable.test(name) || notApplicable.test(title)) group.left++;
    else if (status === "passed") group.passed++;
    else group.failed.push(title);
  }
  return [...groups.values()];
}
