/**
 * `hark sql`: prints the schema for psql or another migration tool.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map } from "@optique/core/modifiers";
import type { Parser } from "@optique/core/parser";
import { command } from "@optique/core/primitives";
import { examplesFooter, plainText } from "./help.ts";
import type { Action } from "./options.ts";
import { print } from "./output.ts";

/** `hark sql`. */
export const sql: Parser<"sync", Action, unknown> = command(
  "sql",
  map(object({}), () => run),
  {
    brief: plainText("Print the schema as SQL."),
    description: plainText(
      "Prints one SQL statement for psql or another migration tool. It installs the schema, upgrades " +
        "an earlier version, or does nothing if the schema is up to date. Needs no database.",
    ),
    footer: examplesFooter(
      ["hark sql > hark.sql; psql -1 -f hark.sql shop", "install or upgrade without Deno"],
    ),
  },
);

async function run(): Promise<number> {
  const { schemaSql } = await import("../schema/migrate.ts");
  await print((await schemaSql()).trimEnd());
  return 0;
}
