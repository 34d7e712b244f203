/**
 * The order of the consumer's parts. A module imports from parts below its own, never from one above or
 * beside it. `deno task graph` prints the imports between the parts.
 *
 * @module
 */

import { type Imports, importsIn } from "./cycles.ts";

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
    "readiness",
    "retry",
    "retry_options",
    "run_options",
    "start",
    "subscribe_options",
  ],
  ["state/"],
  ["dispatch/", "lease/", "read/", "settle/"],
  ["worker/", "pages"],
  ["check_options", "check_retry", "class_fields", "consumer", "limits", "runner", "subscribe"],
];

/** The part that a file belongs to: its folder, such as `state/`, or itself, such as `consumer`. */
function partOf(path: string): string {
  const [first = "", ...rest] = path.slice(folder.length).split("/");
  return rest.length > 0 ? `${first}/` : first.replace(/\.ts$/, "");
}

/** Whether a part is a folder. Single files of one floor may import each other, folders may not. */
export function isWing(part: string): boolean {
  return part.endsWith("/");
}

/** How many imports each part has of each other one. */
export function between(imports: Imports): Map<string, Map<string, number>> {
  const parts = new Map<string, Map<string, number>>();
  for (const [path, targets] of imports) {
    if (!path.startsWith(folder)) continue;
    const part = partOf(path);
    const of = parts.get(part) ?? new Map<string, number>();
    parts.set(part, of);
    for (const other of targets.filter((one) => one.startsWith(folder)).map(partOf)) {
      if (other !== part) of.set(other, (of.get(other) ?? 0) + 1);
    }
  }
  return parts;
}

/** The floor that a part is to stand on, from 0. Undefined for a part that is not known. */
function floorOf(part: string): number | undefined {
  const floor = floors.findIndex((parts) => parts.includes(part));
  return floor < 0 ? undefined : floor;
}

/** Gives a sentence for each import that goes up or aside. A part without a floor is left out. */
export function upward(imports: Imports): string[] {
  const wrong: string[] = [];
  for (const [path, targets] of imports) {
    if (!path.startsWith(folder)) continue;
    const part = partOf(path);
    for (const target of targets.filter((one) => one.startsWith(folder))) {
      const other = partOf(target);
      const [to, from] = [floorOf(other), floorOf(part)];
      if (other === part || to === undefined || from === undefined || to < from) continue;
      const isBeside = to === from && !isWing(part) && !isWing(other);
      if (!isBeside) wrong.push(`${path} imports ${target}, but ${other} is not below ${part}`);
    }
  }
  return wrong;
}

/** Gives a sentence for each import that goes up or aside, and for each part without a floor. */
export async function wings(): Promise<string[]> {
  const imports = await importsIn("src");
  const unknown = [...between(imports).keys()].filter((part) => floorOf(part) === undefined);
  return [
    ...unknown.map((part) => `${folder}${part} has no floor in tests/checks/wings.ts`),
    ...upward(imports),
  ];
}
