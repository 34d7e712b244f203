/**
 * `hark sql`: prints the schema for psql or another migration tool.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { describedCommand } from "./command.ts";
import { print } from "./output.ts";

/** `hark sql`. */
export const sql = describedCommand(
  {
    name: "sql",
    brief: "Print the schema as SQL.",
    description:
      "Prints one SQL statement for psql or another migration tool. It installs the schema, " +
      "upgrades an earlier version, or does nothing if the schema is up to date. It needs no " +
      "database.",
    examples: [
      ["hark sql > hark.sql; psql -1 -f hark.sql shop", "install or upgrade without Deno"],
    ],
  },
  object({}),
  async () => {
    const { schemaSql } = await import("../schema/migrate.ts");
    await print((await schemaSql()).trimEnd());
    return 0;
  },
);
