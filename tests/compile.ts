/**
 * Makes `hark` one program that needs no Deno.
 *
 *     deno task compile [--target x86_64-unknown-linux-gnu] [--output dist/hark]
 *
 * What is embedded beside the graph of `cli.ts` stands in deno.json under "compile": the module of a
 * thread, and what a module of consumers imports. Its rights are those of `deno task listen`, and the
 * variables of `deno task hark`. Deno makes the paths of a set absolute, which would allow the folder it
 * was built in and not the one it runs in, so relative paths are given as flags.
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };

/** The arguments of Deno that compile `hark`, before the user's own. */
export function compileArgs(): string[] {
  const { listen: { write, run, env }, hark } = config.permissions;
  const variables = new Set([...env.allow, ...hark.env.allow]);
  const relative = (paths: readonly string[]) => paths.map((path) => path.replace(/^\.\//, ""));
  return [
    "compile",
    "--no-prompt",
    "--exclude-unused-npm",
    "-P=listen",
    // The flag takes the place of both parts of the set: of what is allowed and of what is ignored.
    "--ignore-env",
    `--allow-env=${[...variables].join(",")}`,
    `--allow-write=${relative(write).join(",")}`,
    `--allow-run=${relative(run).join(",")}`,
  ];
}

if (import.meta.main) {
  const { code } = await new Deno.Command("deno", {
    args: [...compileArgs(), "--output=dist/hark", ...Deno.args, "cli.ts"],
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn().status;
  Deno.exit(code);
}
