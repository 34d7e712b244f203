/**
 * `@hark/postgres/publish` runs wherever JavaScript does: neither it nor anything that it imports
 * needs Node.js or a package, and it stays small.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };
import { bundleSize } from "./bundled.ts";

/** The most bytes of it, minified and compressed by gzip. */
const most = 15_000;

/** A module as `deno info --json` has it, as far as it is used here. */
interface Module {
  readonly specifier: string;
  readonly dependencies?: readonly { readonly specifier: string }[];
}

/** Returns a sentence for each fault; none when all is well. */
export async function light(): Promise<string[]> {
  const path = config.exports["./publish"];
  const { gzipped } = await bundleSize(path);
  return [
    ...(await foreignImports(path)).map((one) => `${one}, so ./publish is not for every runtime`),
    ...gzipped > most ? [`./publish has ${gzipped} bytes compressed, more than ${most}`] : [],
  ];
}

/** What a module and all that it imports take from elsewhere, types included. */
export async function foreignImports(path: string): Promise<string[]> {
  const { stdout } = await new Deno.Command("deno", {
    args: ["info", "--json", "--no-lock", path],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).output();
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as { modules: Module[] };
  if (modules.length < 10) throw new Error(`deno info knows ${modules.length} modules of ${path}`);
  return modules.flatMap(({ specifier, dependencies = [] }) =>
    dependencies.filter((one) => !/^\.{1,2}\//.test(one.specifier)).map((one) =>
      `${specifier.slice(specifier.indexOf("/src/") + 1)} imports ${one.specifier}`
    )
  );
}
