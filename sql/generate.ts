/**
 * Writes src/schema/bundle.ts from the numbered files of this folder: JSR takes no text imports, so
 * the SQL reaches the program as a module. A test fails when the two differ.
 *
 * @module
 */

const folder = new URL("./", import.meta.url);
const output = new URL("../src/schema/bundle.ts", import.meta.url);

/** Returns the text of the module that the SQL files make. */
export async function generate(): Promise<string> {
  const names: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    if (/^\d{3}_\w+\.sql$/.test(entry.name)) names.push(entry.name);
  }
  names.sort();
  const parts: string[] = [];
  for (const [index, name] of names.entries()) {
    const version = Number(name.slice(0, 3));
    if (version !== index + 1) throw new Error(`sql/${name}: expected number ${index + 1}`);
    const text = await Deno.readTextFile(new URL(name, folder));
    const literal = text.replaceAll("\\", "\\\\").replaceAll("`", "\\`").replaceAll("${", "\\${");
    parts.push(
      `  {\n    version: ${version},\n    name: "${
        name.slice(4, -4)
      }",\n    sql: \`${literal}\`,\n  },`,
    );
  }
  return [
    "// Generated from sql/*.sql by `deno task bundle`. Do not edit.",
    "",
    "/** A numbered migration: its version, its name, and the SQL that makes it. */",
    "export interface Migration {",
    "  /** 1, 2, 3 and so on: the schema's version once it is applied. */",
    "  readonly version: number;",
    "  /** What it brings, one word. */",
    "  readonly name: string;",
    "  /** Its statements, to be run in one transaction. */",
    "  readonly sql: string;",
    "}",
    "",
    "/** Every migration, in order. */",
    "export const migrations: readonly Migration[] = [",
    ...parts,
    "];",
    "",
  ].join("\n");
}

if (import.meta.main) await Deno.writeTextFile(output, await generate());
