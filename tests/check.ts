/**
 * All that can be said of the code without running it: format, lint, types, documentation, whether it
 * could be published, and the project's own rules. Each step runs even if the one before it failed.
 *
 *     deno task check
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };
import { cycles } from "./checks/cycles.ts";
import { filesBelow } from "./checks/files.ts";
import { light } from "./checks/light.ts";
import { locks } from "./checks/locks.ts";
import { checkSql } from "./checks/sql.ts";
import { short } from "./checks/short.ts";
import { checkWeb } from "./checks/web.ts";
import { wings } from "./checks/wings.ts";

/** Steps that Deno does. */
const steps: [name: string, args: string[]][] = [
  ["format", ["fmt", "--check"]],
  ["lint", ["lint"]],
  ["types", ["check", "--doc", "--frozen", "--lock=dev.lock"]],
  ["types of the package", ["check", "--frozen", ...Object.values(config.exports)]],
  // A program that imports a clone checks it with Deno's own compiler options, which are laxer here and
  // stricter there than those of this project.
  ["types of a clone in another program", [
    ...["check", "--config=tests/checks/plain.json", "--frozen", "--lock=deno.lock"],
    ...Object.entries(config.exports).flatMap(([name, path]) => name === "./cli" ? [] : [path]),
  ]],
  // Deno looks for Markdown in no folder, so each page is named.
  ["examples in docs", [
    ...["check", "--doc-only", "--frozen", "--lock=tests/docs/deno.lock", "README.md"],
    ...(await filesBelow("docs")).filter((path) => path.endsWith(".md")),
  ]],
  ["docs", ["run", "--no-prompt", "-P=docs", "--lock=dev.lock", "tests/checks/docs.ts"]],
  ["prose", ["run", "--no-prompt", "-P=docs", "--lock=dev.lock", "tests/checks/prose.ts"]],
  ["documentation", ["doc", "--lint", ...Object.values(config.exports)]],
  ["package", ["publish", "--dry-run", "--allow-dirty", "--quiet"]],
];

/** The project's own rules: each gives what breaks it, one sentence each. */
const rules: [name: string, check: () => Promise<string[]>][] = [
  ["no import circle", cycles],
  ["the consumer's parts in order", wings],
  ["no file over 300 lines", short],
  ["a light lock", locks],
  ["publishing without a driver, for every runtime", light],
  ["SQL told once, called, granted, carried", checkSql],
  ["what browsers load is carried, and small", checkWeb],
];

/** Deno 2.9 says so of every module of Node's types; it means nothing. */
const NOISE =
  /^Warning Failed resolving types\.|^Warning Permissions in the config|^ +at file:.*@types/;

let failed = 0;

/** Says how a step went, and what is wrong. */
function report(name: string, begun: number, wrong: string | undefined): void {
  const took = Math.round(performance.now() - begun);
  console.log(`${wrong === undefined ? "ok" : "FAILED"} ${name} (${took} ms)`);
  if (wrong === undefined) return;
  failed++;
  console.log(wrong);
}

for (const [name, args] of steps) {
  const begun = performance.now();
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  const lines = `${text.decode(stdout)}${text.decode(stderr)}`.split("\n");
  const output = lines.filter((line) => !NOISE.test(line)).join("\n");
  report(`${name}: deno ${args.slice(0, 5).join(" ")}`, begun, code === 0 ? undefined : output);
}
for (const [name, check] of rules) {
  const begun = performance.now();
  const wrong = await check();
  report(name, begun, wrong.length === 0 ? undefined : wrong.map((line) => `  ${line}`).join("\n"));
}
if (failed > 0) {
  console.log(`${failed} of ${steps.length + rules.length} checks failed`);
  Deno.exit(1);
}
