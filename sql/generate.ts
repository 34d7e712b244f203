/**
 * Writes two files from the SQL of this folder. `deno task check` fails if one of them is stale.
 *
 * - src/schema/sql.json: all the SQL. JSR takes no text imports, so the SQL reaches the program as one
 *   JSON file.
 * - src/database/rights.json: which functions each kind of right allows, and the names of the tables. With
 *   it an error can tell which right is missing. A role without rights cannot ask the database.
 *
 * @module
 */

const folder = new URL("./", import.meta.url);
const output = {
  sql: new URL("../src/schema/sql.json", import.meta.url),
  rights: new URL("../src/database/rights.json", import.meta.url),
};

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

/** The text of the JSON file about rights: the lists of rights.sql by kind, and the tables of tables.sql. */
export async function generateRights(): Promise<string> {
  const [rights, tables] = await Promise.all(
    ["rights.sql", "tables.sql"].map((path) => Deno.readTextFile(new URL(path, folder))),
  ) as [string, string];
  const found: Record<string, string[]> = {
    publish: [],
    read: [],
    consume: [],
    operate: [],
    observe: [],
    tables: [...tables.matchAll(/^create (?:unlogged )?table hark\.(\w+)/gm)].map(([, name]) =>
      name!
    ),
  };
  const lists = rights.replaceAll(/--.*$/gm, "").matchAll(
    /\('\{([^}]*)\}'[^,]*, array\[([^\]]*)\]\)/g,
  );
  for (const [, kinds, names] of lists) {
    for (const kind of kinds!.split(", ").filter((kind) => kind !== "")) {
      found[kind]!.push(...[...names!.matchAll(/'(\w+)'/g)].map(([, name]) => name!));
    }
  }
  for (const names of Object.values(found)) names.sort();
  return `${JSON.stringify(found, null, 2)}\n`;
}

if (import.meta.main) {
  await Deno.writeTextFile(output.sql, await generate());
  await Deno.writeTextFile(output.rights, await generateRights());
}
