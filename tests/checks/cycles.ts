/**
 * No module imports itself through others, be it a type or a late `import()`: of a circle no part can
 * be read, tested or moved alone.
 *
 * @module
 */

import { join } from "node:path/posix";
import config from "../../deno.json" with { type: "json" };
import { filesBelow } from "./files.ts";

/** The modules that a module imports, by their paths from the project's folder. */
export type Imports = ReadonlyMap<string, readonly string[]>;

/** Every way to name another module. A comment's example begins with an asterisk and is not found. */
const imported = [
  /^(?:import|export)\s[^;"'`]*?from\s*"([^"]+)"/gm,
  /^import\s*"([^"]+)"/gm,
  /\bimport\(\s*"([^"]+)"/g,
];

/** Gives each circle, as the paths along it. */
export async function cycles(): Promise<string[]> {
  const imports = await importsIn("src", "bench", "tests", "examples");
  return circles(imports).map((circle) => `import circle: ${circle.join(" -> ")}`);
}

/** What the modules of some folders, and the package's own two, import. */
export async function importsIn(...folders: readonly string[]): Promise<Imports> {
  const files = (await filesBelow(...folders)).filter((path) => path.endsWith(".ts"));
  const imports = new Map<string, readonly string[]>();
  for (const path of ["mod.ts", "cli.ts", ...files]) {
    imports.set(path, importsOf(path, await Deno.readTextFile(path)));
  }
  return imports;
}

function importsOf(path: string, text: string): string[] {
  const own = `${config.name}`;
  const specifiers = imported.flatMap((pattern) =>
    [...text.matchAll(pattern)].map(([, specifier]) => specifier!)
  );
  return specifiers.flatMap((specifier) => {
    if (specifier.startsWith(".")) return [join(path, "..", specifier)];
    if (specifier !== own && !specifier.startsWith(`${own}/`)) return [];
    const exported = `.${specifier.slice(own.length)}`;
    return [join(config.exports[exported as keyof typeof config.exports])];
  });
}

/** Walks depth first; a step back onto the path closes a circle. One is given for each such step. */
export function circles(imports: Imports): string[][] {
  const found: string[][] = [];
  const finished = new Set<string>();
  const path: string[] = [];
  const visit = (module: string) => {
    const at = path.indexOf(module);
    if (at >= 0) {
      found.push([...path.slice(at), module]);
      return;
    }
    if (finished.has(module)) return;
    path.push(module);
    for (const next of imports.get(module) ?? []) visit(next);
    path.pop();
    finished.add(module);
  };
  for (const module of imports.keys()) visit(module);
  return found;
}
