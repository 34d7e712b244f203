/**
 * The test kit: how long `deno test` takes for one file with one test of a consumer, from the shell
 * to its end, beside a test that only starts a bare PGlite.
 *
 *     deno task bench kit [--repeats 7] [--json]
 *
 * @module
 */

import { fromFileUrl } from "../tests/harness/files.ts";
import { alternate, flags, median, round } from "./flags.ts";
import { print } from "./table.ts";

const given = flags({ repeats: "7" });
const files = {
  "a bare PGlite": "bare",
  "testDatabase, kept from the run before": "kept",
  "testDatabase, nothing kept": "anew",
};

async function measure(file: string): Promise<number> {
  const begun = performance.now();
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "test",
      "--no-prompt",
      "--quiet",
      "--no-check",
      "--allow-read",
      "--ignore-env",
      "--lock=dev.lock",
      fromFileUrl(new URL(`kit/${file}.ts`, import.meta.url)),
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  if (code !== 0) {
    throw new Error(
      `${file}: ${new TextDecoder().decode(stdout)}${new TextDecoder().decode(stderr)}`,
    );
  }
  return Math.round(performance.now() - begun);
}

for (const file of ["bare", "anew", "kept"]) await measure(file); // compiles, and keeps the data
const results = await alternate(
  given.repeats,
  Object.entries(files).map(([name, file]) => [name, () => measure(file)] as const),
);
const bare = median(results.get("a bare PGlite")!);
await print({
  title: "deno test of one file, ms",
  rows: [...results].map(([name, times]) => ({
    test: name,
    ms: median(times),
    "least ms": Math.min(...times),
    "of the bare PGlite": round(median(times) / bare),
  })),
  notes: [`Medians of ${given.repeats} in turns, all code compiled before, without type checks.`],
}, given);
