/**
 * Start-up: how long a command takes from the shell to its end, compared with Deno's own start.
 *
 *     deno task bench startup [--repeats 11] [--json]
 *
 * @module
 */

import { fromFileUrl } from "../tests/harness/files.ts";
import { alternate, flags, median } from "./flags.ts";
import { ownDatabase } from "./own.ts";
import { print } from "./table.ts";

const given = flags({ repeats: "11" });
await using own = await ownDatabase();
const root = new URL("../", import.meta.url);
const cli = [
  "run",
  "--no-prompt",
  "--quiet",
  `--config=${fromFileUrl(new URL("deno.json", root))}`,
  "-P=hark",
  fromFileUrl(new URL("cli.ts", root)),
];
const commands: Readonly<Record<string, readonly string[]>> = {
  "deno eval 0": ["eval", "0"],
  "hark --help": [...cli, "--help"],
  "hark status": [...cli, "status"],
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

for (const args of Object.values(commands)) await measure(args); // warms up caches
const results = await alternate(
  given.repeats,
  Object.entries(commands).map(([name, args]) => [name, () => measure(args)] as const),
);
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
