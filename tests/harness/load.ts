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
    if (typeof first === "string") {
      const fn = more.pop() as Deno.TestDefinition["fn"];
      return declare(`${file}${ARROW}${first}`, ...more, whole(fn));
    }
    const definition = first as Deno.TestDefinition;
    const { name, fn } = definition;
    declare({ ...definition, name: `${file}${ARROW}${name}`, fn: whole(fn) }, ...more);
  };
  // The members of Deno.test, such as Deno.test.ignore, would declare tests without the file's name.
  Object.assign(Deno, { test: named });
  try {
    await imported();
  } finally {
    Object.assign(Deno, { test: declare });
  }
}

/** Has a test that fails also while it clears away tell both errors: the report has the outer one only. */
function whole(fn: Deno.TestDefinition["fn"]): Deno.TestDefinition["fn"] {
  return async (t) => {
    try {
      await fn(t);
    } catch (error) {
      for (let outer = error; outer instanceof SuppressedError; outer = outer.suppressed) {
        console.error("While clearing away:", outer.error, "\nBefore that:", outer.suppressed);
      }
      throw error;
    }
  };
}

/** The name that a test was given in its file. */
export function ownName(name: string): string {
  return name.replace(/^\S+_test\.ts => /, "");
}
