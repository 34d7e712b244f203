/**
 * Writes src/schema/sql.json from the files of this folder: JSR takes no text imports, so the SQL reaches
 * the program as one JSON file. `deno task check` fails when the two differ.
 *
 * @module
 */

const folder = new URL("./", import.meta.url);
const output = new URL("../src/schema/sql.json", import.meta.url);

/** The paths of all SQL files, relative to this folder, sorted. */
export async function sqlFiles(): Promise<string[]> {
  const found: string[] = [];
  const visit = async (below: string) => {
    for await (const entry of Deno.readDir(new URL(below, folder))) {
      if (entry.isDirectory) await visit(`${below}${entry.name}/`);
      else if (entry.name.endsWith(".sql")) found.push(`${below}${entry.name}`);
    }
  };
  await visit("./");
  return found.map((path) => path.slice(2)).sort();
}

/** The text of the JSON file that the SQL files make. */
export async function generate(): Promise<string> {
  const files: Record<string, string> = {};
  for (const path of await sqlFiles()) {
    files[path] = await Deno.readTextFile(new URL(path, folder));
  }
  return `${JSON.stringify(files, null, 2)}\n`;
}

if (import.meta.main) await Deno.writeTextFile(output, await generate());
