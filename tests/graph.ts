/**
 * Prints the imports between the consumer's parts: which part imports which, on how many floors they
 * stand, and the circles. Fails if there is a circle, or an import that goes up or aside.
 *
 *     deno task graph [folder of another checkout]
 *
 * @module
 */

import { circles, importsIn } from "./checks/cycles.ts";
import { between, isWing, upward } from "./checks/wings.ts";

/** How many imports each part has of each other one. */
type Parts = ReadonlyMap<string, ReadonlyMap<string, number>>;

/** On which floor each part stands: on the one above the highest of what it imports. */
function floorsOf(parts: Parts): ReadonlyMap<string, number> {
  const floors = new Map<string, number>();
  const floorOf = (part: string, above: readonly string[]): number => {
    if (above.includes(part)) return 0; // a circle, which is told by itself
    const below = [...parts.get(part)?.keys() ?? []];
    const floor = floors.get(part) ??
      1 + Math.max(0, ...below.map((other) => floorOf(other, [...above, part])));
    floors.set(part, floor);
    return floor;
  };
  for (const part of parts.keys()) floorOf(part, []);
  return floors;
}

function circlesOf(parts: Parts): string[][] {
  return circles(new Map([...parts].map(([part, of]) => [part, [...of.keys()]])));
}

function inShort(what: string, parts: Parts): string {
  const counts = [...parts.values()].map((of) => [...of.values()]);
  const lines = counts.flat().reduce((sum, count) => sum + count, 0);
  return `${parts.size} ${what} on ${Math.max(0, ...floorsOf(parts).values())} floors, ` +
    `imports between them: ${counts.flat().length} (${lines} of files), ` +
    `circles: ${circlesOf(parts).length}`;
}

const [checkout] = Deno.args;
if (checkout !== undefined) Deno.chdir(checkout);
const imports = await importsIn("src");
const parts = between(imports);
const floors = floorsOf(parts);
const byFloor = [...parts].sort(([a], [b]) => floors.get(a)! - floors.get(b)! || (a < b ? -1 : 1));
for (const [part, of] of byFloor) {
  const told = [...of].sort().map(([other, count]) => count === 1 ? other : `${other} (${count})`);
  console.log(`floor ${floors.get(part)}: ${part} imports ${told.join(", ") || "none"}`);
}
console.log(inShort("parts", parts));
const wings = new Map(
  [...parts].filter(([part]) => isWing(part)).map((
    [part, of],
  ) => [part, new Map([...of].filter(([other]) => isWing(other)))]),
);
if (wings.size > 0) console.log(inShort("of them folders", wings));
const wrong = [
  ...circlesOf(parts).map((circle) => `import circle: ${circle.join(" -> ")}`),
  ...upward(imports),
];
for (const one of wrong) console.log(one);
if (wrong.length > 0) Deno.exit(1);
