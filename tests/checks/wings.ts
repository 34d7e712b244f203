/**
 * The order of the consumer's parts. A module imports from parts below its own, never from one above or
 * beside it.
 *
 *     deno run -P=docs tests/checks/wings.ts [folder of another checkout]
 *
 * prints the imports between the parts.
 *
 * @module
 */

import { circles, type Imports, importsIn } from "./cycles.ts";

const folder = "src/consume/";

/** From the ground up. Parts of one line stand side by side. */
const floors: readonly (readonly string[])[] = [
  [
    "around",
    "handler",
    "limit_options",
    "link",
    "notification",
    "option_table",
    "options",
    "retry",
    "retry_options",
    "run_options",
    "start",
    "subscribe_options",
  ],
  ["state"],
  ["dispatch", "lease", "read", "settle"],
  ["worker", "pages"],
  ["check_options", "class_fields", "consumer", "limits", "runner", "subscribe"],
];

/** The part that a file belongs to: its folder, or itself. */
function partOf(path: string): string {
  return path.slice(folder.length).split("/")[0]!.replace(/\.ts$/, "");
}

/** The imports between parts. */
function between(imports: Imports): Map<string, Set<string>> {
  const parts = new Map<string, Set<string>>();
  for (const [path, targets] of imports) {
    if (!path.startsWith(folder)) continue;
    const part = partOf(path);
    const of = parts.get(part) ?? new Set();
    parts.set(part, of);
    for (const target of targets) {
      if (target.startsWith(folder) && partOf(target) !== part) of.add(partOf(target));
    }
  }
  return parts;
}

/** Gives a sentence for each import that goes up or aside. */
export async function wings(): Promise<string[]> {
  const wrong: string[] = [];
  const floorOf = (part: string) => floors.findIndex((parts) => parts.includes(part));
  for (const [path, targets] of await importsIn("src")) {
    if (!path.startsWith(folder)) continue;
    const part = partOf(path);
    if (floorOf(part) < 0) wrong.push(`${path}: ${part} has no floor in tests/checks/wings.ts`);
    for (const target of targets.filter((one) => one.startsWith(folder))) {
      const other = partOf(target);
      const isBelow = floorOf(other) < floorOf(part);
      const isBeside = floorOf(other) === floorOf(part) && !wing(part) && !wing(other);
      if (other !== part && !isBelow && !isBeside) {
        wrong.push(`${path} imports ${target}, but ${other} is not below ${part}`);
      }
    }
  }
  return wrong;
}

/** Whether a part is a folder. Single files of one floor may import each other. */
function wing(part: string): boolean {
  return ["state", "dispatch", "lease", "read", "settle", "worker"].includes(part);
}

if (import.meta.main) {
  const [checkout] = Deno.args;
  if (checkout !== undefined) Deno.chdir(checkout);
  const imports = await importsIn("src");
  const parts = between(imports);
  let count = 0;
  for (const [part, of] of [...parts].sort()) {
    count += of.size;
    console.log(`${part}: ${[...of].sort().join(" ") || "-"}`);
  }
  const depth = new Map<string, number>();
  const depthOf = (part: string, path: readonly string[] = []): number => {
    if (path.includes(part)) return 0;
    const known = depth.get(part);
    if (known !== undefined) return known;
    const below = [...parts.get(part) ?? []].map((other) => depthOf(other, [...path, part]));
    const floor = 1 + Math.max(0, ...below);
    depth.set(part, floor);
    return floor;
  };
  const height = Math.max(...[...parts.keys()].map((part) => depthOf(part)));
  const found = circles(new Map([...parts].map(([part, of]) => [part, [...of]])));
  console.log(
    `${parts.size} parts, ${count} imports between them, ${height} floors, ${found.length} circles`,
  );
}
