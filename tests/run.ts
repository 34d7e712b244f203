/**
 * Runs the tests: against the server of DATABASE_URL, or against a throwaway one.
 *
 *     deno task test [files and flags of `deno test`]
 *
 * The last line says how many passed and failed. The exit code is not 0 when one failed, when
 * nothing ran, or when a file could not be loaded.
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };
import { type EmbeddedServer, startEmbedded } from "../src/database/embedded/mod.ts";
import { dropRun, newRunPrefix } from "./harness/template.ts";

/** How many tests did what, from Deno's own closing line. */
interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

async function main(args: string[]): Promise<number> {
  // The terminal sends Ctrl-C to the tests as well: wait for them, then stop the server in order.
  const wait = () => {};
  Deno.addSignalListener("SIGINT", wait);
  let server: EmbeddedServer | undefined;
  try {
    let url = Deno.env.get("DATABASE_URL");
    if (!url) {
      const version = Deno.env.get("HARK_TEST_PG");
      server = await startEmbedded({ ephemeral: true, ...(version ? { version } : {}) });
      console.log(`PostgreSQL ${server.version}, a throwaway server on port ${server.port}`);
      url = server.url;
    }
    const run = newRunPrefix();
    const { code, counts } = await runTests(args, url, run);
    if (server === undefined) await dropRun(url, run).catch((error) => console.error(error));
    const { passed, failed, skipped } = counts ?? { passed: 0, failed: 1, skipped: 0 };
    console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
    return code !== 0 ? code : failed > 0 || passed === 0 ? 1 : 0;
  } finally {
    await server?.[Symbol.asyncDispose]();
    Deno.removeSignalListener("SIGINT", wait);
  }
}

async function runTests(
  args: string[],
  url: string,
  run: string,
): Promise<{ code: number; counts: Counts | undefined }> {
  const host = new URL(url).hostname;
  const local = ["127.0.0.1", "localhost"];
  const colour = Deno.stdout.isTerminal() && !Deno.noColor;
  const child = new Deno.Command("deno", {
    args: [
      "test",
      "--no-prompt",
      // Most of a test is waiting for a server: files run side by side, more than there are cores.
      "--parallel",
      "-P=test",
      "--lock=.hark/dev.lock",
      // A flag replaces the set's own list, so it has to repeat it. See spawnDeno() for the program.
      `--allow-run=${[...config.permissions.test.run, Deno.execPath()].join(",")}`,
      ...(local.includes(host) ? [] : [`--allow-net=${[...local, host].join(",")}`]),
      ...args,
    ],
    env: {
      DATABASE_URL: url,
      DENO_JOBS: Deno.env.get("DENO_JOBS") ?? "4",
      HARK_TEST_RUN: run,
      ...(colour ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" }),
    },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let tail = "";
  const text = new TextDecoder();
  for await (const chunk of child.stdout) {
    for (let sent = 0; sent < chunk.length;) sent += await Deno.stdout.write(chunk.subarray(sent));
    tail = (tail + text.decode(chunk, { stream: true })).slice(-20_000);
  }
  const { code } = await child.status;
  return { code, counts: countsIn(tail) };
}

/** Reads `ok | 12 passed (3 steps) | 1 failed | 2 ignored (98ms)`; the last such line counts. */
function countsIn(output: string): Counts | undefined {
  // deno-lint-ignore no-control-regex -- colours
  const plain = output.replaceAll(/\x1b\[[0-9;]*m/g, "");
  const line = plain.match(/^(?:ok|FAILED) \| \d+ passed.*$/gm)?.at(-1);
  if (line === undefined) return undefined;
  const count = (what: string) => Number(line.match(new RegExp(`(\\d+) ${what}`))?.[1] ?? 0);
  return { passed: count("passed"), failed: count("failed"), skipped: count("ignored") };
}

if (import.meta.main) Deno.exit(await main(Deno.args));
