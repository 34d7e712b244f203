/**
 * Several test files in one program, each test named after its file.
 *
 * @module
 */

type Declare = (...given: unknown[]) => void;

const declare = Deno.test as Declare;

/** What stands between a file and the name of its test. */
const ARROW = " => ";

/** Imports a test file; the names of its tests begin with the file's. */
export async function load(file: string, imported: () => Promise<unknown>): Promise<void> {
  const named = (first: unknown, ...more: unknown[]) => {
    if (typeof first === "string") return declare(`${file}${ARROW}${first}`, ...more);
    const definition = first as Deno.TestDefinition;
    declare({ ...definition, name: `${file}${ARROW}${definition.name}` }, ...more);
  };
  // The members of Deno.test, such as Deno.test.ignore, would declare tests without the file's name.
  Object.assign(Deno, { test: named });
  try {
    await imported();
  } finally {
    Object.assign(Deno, { test: declare });
  }
}

/** The name that a test was given in its file. */
export function ownName(name: string): string {
  return name.replace(/^\S+_test\.ts => /, "");
}
