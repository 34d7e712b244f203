/**
 * Start-up: how long a command takes from the shell to its end, compared with Deno's own start. Then how long a
 * program takes that only imports a module, beside an empty file: with the code cache that Deno keeps of a program
 * that has run before, and without it, as where nothing is kept between two starts.
 *
 *     deno task bench startup [--repeats 11] [--json]
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };
import { fromFileUrl } from "../tests/harness/files.ts";
import { alternate, flags, median } from "./flags.ts";
import { hark } from "./hark.ts";
import { ownDatabase } from "./own.ts";
import { print } from "./table.ts";

const given = flags({ repeats: "11" });
await using own = await ownDatabase();
const root = new URL("../", import.meta.url);
const commands: Readonly<Record<string, readonly string[]>> = {
  "deno eval 0": ["eval", "0"],
  "hark --help": [...hark, "--help"],
  "hark status": [...hark, "status"],
};

async function measure(args: readonly string[]): Promise<number> {
  const begun = performance.now();
  const { code, stderr } = await new Deno.Command("deno", {
    args: [...args],
    env: { DATABASE_URL: own.url },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  if (code !== 0) throw new Error(`deno ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  return Math.round(performance.now() - begun);
}

/** What each module is called with, by the name of its row. */
const imports = (...flags: readonly string[]) =>
  Object.fromEntries(
    [
      ["an empty file", "bench/startup/empty.ts"],
      ...([".", "./publish", "./edge", "./deno-queue", "./streams"] as const).map((name) =>
        [name, config.exports[name]] as const
      ),
    ].map(([name, path]) => [name!, [
      "run",
      "--no-prompt",
      "--quiet",
      `--config=${fromFileUrl(new URL("deno.json", root))}`,
      "-P=hark",
      ...flags,
      fromFileUrl(new URL(path!, root)),
    ]]),
  );

/** The times of some commands in turns, each measured once before. */
async function timed(all: Readonly<Record<string, readonly string[]>>) {
  for (const args of Object.values(all)) await measure(args); // warms up caches
  return await alternate(
    given.repeats,
    Object.entries(all).map(([name, args]) => [name, () => measure(args)] as const),
  );
}

const results = await timed(commands);
const floor = median(results.get("deno eval 0")!);
await print({
  title: "From the shell to the end of the command, ms",
  rows: [...results].map(([name, times]) => ({
    command: name,
    ms: median(times),
    "beyond Deno": median(times) - floor,
    "least ms": Math.min(...times),
  })),
  notes: [`Medians of ${given.repeats} in turns, all code compiled and cached before.`],
}, given);

const kept = await timed(imports());
const cold = await timed(imports("--no-code-cache"));
const beyond = (times: typeof kept, name: string) =>
  median(times.get(name)!) - median(times.get("an empty file")!);
await print({
  title: "From the shell to the end of a program that imports a module, ms",
  rows: [...kept.keys()].map((name) => ({
    module: name,
    ms: median(kept.get(name)!),
    "beyond empty": beyond(kept, name),
    "no code cache, ms": median(cold.get(name)!),
    "no code cache, beyond empty": beyond(cold, name),
  })),
  notes: [
    `Medians of ${given.repeats} in turns. Types are checked and modules are fetched before.`,
  ],
}, given);
