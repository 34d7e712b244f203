/**
 * The package as a program on Node.js or Bun has it from JSR's npm registry: each module by itself, with its
 * types stripped and `using` made plain, as JSR does it. Here the compiler of TypeScript does so.
 *
 * @module
 */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import ts from "npm:typescript@5.9.3";
import { filesBelow } from "../checks/files.ts";
import { PROJECT, spawn } from "../harness/mod.ts";

const compilerOptions: ts.CompilerOptions = {
  module: ts.ModuleKind.ESNext,
  target: ts.ScriptTarget.ES2022,
  rewriteRelativeImportExtensions: true,
  verbatimModuleSyntax: true,
};

/** What programs import from npm beside it, in the versions of deno.json. */
const dependencies = ["pg", "@logtape/logtape", "croner"];

/** The package's files, compiled once for all runtimes. */
let compiled: Promise<ReadonlyMap<string, string>> | undefined;

async function compile(): Promise<ReadonlyMap<string, string>> {
  const files = (await filesBelow(join(PROJECT, "src"))).map((file) =>
    file.slice(PROJECT.length).replace(/^\//, "")
  );
  const texts = new Map<string, string>();
  for (const file of ["mod.ts", "cli.ts", ...files]) {
    const text = await Deno.readTextFile(join(PROJECT, file));
    texts.set(
      file.replace(/\.ts$/, ".js"),
      file.endsWith(".ts")
        ? ts.transpileModule(text, { compilerOptions, fileName: file }).outputText
        : text,
    );
  }
  return texts;
}

/** Makes a folder of a program that depends on the package. */
export async function writePackage(folder: string): Promise<void> {
  const { name, version, exports, imports } = JSON.parse(
    await Deno.readTextFile(join(PROJECT, "deno.json")),
  );
  const versionOf = (name: string) => imports[name].slice(imports[name].lastIndexOf("@") + 1);
  await Deno.writeTextFile(
    join(folder, "package.json"),
    JSON.stringify({
      type: "module",
      dependencies: Object.fromEntries(dependencies.map((one) => [one, versionOf(one)])),
    }),
  );
  await using installing = spawn(Deno.execPath(), [
    "install",
    "--no-lock",
    "--node-modules-dir=auto",
  ], { cwd: folder });
  const { code, stderr } = await installing.ended({ deadline: 60_000 });
  assert.equal(code, 0, stderr);
  const inside = join(folder, "node_modules", name);
  for (const [file, text] of await (compiled ??= compile())) {
    const to = join(inside, file);
    await Deno.mkdir(dirname(to), { recursive: true });
    await Deno.writeTextFile(to, text);
  }
  await Deno.writeTextFile(
    join(inside, "package.json"),
    JSON.stringify({
      name,
      version,
      type: "module",
      exports: Object.fromEntries(
        Object.entries(exports as Record<string, string>).map(([path, file]) => [
          path,
          file.replace(/\.ts$/, ".js"),
        ]),
      ),
    }),
  );
}
