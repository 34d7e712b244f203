/**
 * Node.js, and programs for it that use Hark.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { filesBelow } from "../../checks/files.ts";
import { PROJECT, type Scratch, scratch, spawn } from "../../harness/mod.ts";

/** Node.js 24 below .hark/, as CI installs it from npm. */
const path = join(PROJECT, ".hark/runtimes/node_modules/node24/bin/node");

/** Where it is; undefined on a machine without. */
export const nodePath: string | undefined = await Deno.stat(path).then(
  () => path,
  (error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  },
);

/**
 * A folder with a copy of Hark's modules, a program, and its packages from npm: those of `names` in the
 * versions of deno.json, and `others`.
 */
export async function nodeProject(
  program: string,
  names: readonly string[],
  others: Readonly<Record<string, string>> = {},
): Promise<Scratch> {
  const folder = await scratch();
  const copy = async (file: string) => {
    const to = join(folder.path, file);
    await Deno.mkdir(dirname(to), { recursive: true });
    await Deno.copyFile(join(PROJECT, file), to);
  };
  for (const file of ["mod.ts", ...await filesBelow("src")]) await copy(file);
  await Deno.writeTextFile(join(folder.path, "program.ts"), program);
  await Deno.writeTextFile(join(folder.path, "package.json"), await packageJson(names, others));
  await using installing = spawn(Deno.execPath(), ["install", "--no-lock"], { cwd: folder.path });
  const { code, stderr } = await installing.ended({ deadline: 120_000 });
  if (code !== 0) throw new Error(`the packages could not be installed: ${stderr}`);
  // Modules read the version from it. Before, Deno would have installed all that it names.
  await copy("deno.json");
  return folder;
}

async function packageJson(
  names: readonly string[],
  others: Readonly<Record<string, string>>,
): Promise<string> {
  const { imports } = JSON.parse(await Deno.readTextFile(join(PROJECT, "deno.json")));
  const dependencies = names.map((name) => {
    const specifier: string = imports[name];
    return [name, specifier.slice(specifier.lastIndexOf("@") + 1)];
  });
  return JSON.stringify({
    type: "module",
    dependencies: { ...Object.fromEntries(dependencies), ...others },
  });
}
