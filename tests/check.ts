/**
 * All that can be said of the code without running it: format, lint, types, documentation, and
 * whether it could be published. Each step runs even if the one before it failed.
 *
 *     deno task check
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };

const steps: [name: string, args: string[]][] = [
  ["format", ["fmt", "--check"]],
  ["lint", ["lint"]],
  ["types", ["check", "--doc"]],
  ["examples in docs", ["check", "--doc-only", "--lock=tests/docs/deno.lock", "README.md", "docs"]],
  ["docs", ["run", "--no-prompt", "-P=docs", "tests/checks/docs.ts"]],
  ["prose", ["run", "--no-prompt", "-P=docs", "tests/checks/prose.ts"]],
  ["documentation", ["doc", "--lint", ...Object.values(config.exports)]],
  ["package", ["publish", "--dry-run", "--allow-dirty", "--quiet"]],
];

/** Deno 2.9 says so of every module of Node's types; it means nothing. */
const NOISE =
  /^Warning Failed resolving types\.|^Warning Permissions in the config|^ +at file:.*@types/;

let failed = 0;
for (const [name, args] of steps) {
  const begun = performance.now();
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const took = Math.round(performance.now() - begun);
  console.log(`${code === 0 ? "ok" : "FAILED"} ${name} (${took} ms): deno ${args.join(" ")}`);
  if (code === 0) continue;
  failed++;
  const text = new TextDecoder();
  const output = `${text.decode(stdout)}${text.decode(stderr)}`;
  console.log(output.split("\n").filter((line) => !NOISE.test(line)).join("\n"));
}
if (failed > 0) {
  console.log(`${failed} of ${steps.length} checks failed`);
  Deno.exit(1);
}
