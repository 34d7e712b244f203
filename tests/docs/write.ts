/**
 * Writes the generated parts of the documentation anew: help pages, screens, signatures, tables of
 * options, pictures.
 *
 *     DATABASE_URL=postgres://… deno task screens
 *
 * On that server a database is made and dropped. `deno task dev` starts one where there is none. Without
 * DATABASE_URL, screens and signatures stay as they are, which need one.
 *
 * @module
 */

import { migrate } from "../../src/schema/migrate.ts";
import { allPages, rewritten, writePage } from "../checks/markdown.ts";
import { connect, disconnect, once, withDatabaseName } from "../harness/connect.ts";
import { sqlFunctions } from "./functions.ts";
import { generated, type Made } from "./generated.ts";
import { withOptionTables } from "./option_tables.ts";
import { pictures } from "./pictures.ts";
import { screens } from "./screens.ts";
import { symbols } from "./symbols.ts";

async function made(server: string): Promise<Made> {
  const name = `hark_docs_${crypto.randomUUID().slice(0, 8)}`;
  await once(server, `create database ${name}`);
  const url = withDatabaseName(server, name);
  const client = await connect(url);
  try {
    await migrate(client);
    return { functions: await sqlFunctions(client), screens: await screens(url) };
  } finally {
    await disconnect(client);
    await once(server, `drop database ${name} with (force)`);
  }
}

if (import.meta.main) {
  const server = Deno.env.get("DATABASE_URL");
  if (!server) {
    console.log("There is no DATABASE_URL: screens and signatures of SQL stay as they are.");
  }
  const all = server ? await made(server) : undefined;
  const exported = await symbols();
  for (const [name, svg] of Object.entries(pictures)) {
    await Deno.writeTextFile(new URL(`../../docs/pictures/${name}`, import.meta.url), svg);
  }
  let changed = 0;
  for (const page of await allPages()) {
    const lines = withOptionTables(
      await rewritten(page, (block) => generated(page, block, all)),
      exported,
    );
    if (lines.join("\n") === page.lines.join("\n")) continue;
    changed++;
    await writePage(page.path, lines);
    console.log(`wrote ${page.path}`);
  }
  console.log(`${changed} pages changed`);
}
