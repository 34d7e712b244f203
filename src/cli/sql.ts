/**
 * `hark sql`: prints the schema for psql or another migration tool.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map, optional } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command, option } from "@optique/core/primitives";
import { HarkError } from "../errors.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, number } from "./options.ts";
import { print } from "./output.ts";

const options = object({
  from: optional(option("--from", number("VERSION", { least: 0 }), {
    description: plainText("Leave out what a schema of this version has already. Default: 0."),
  })),
});

/** `hark sql`. */
export const sql: Parser<"sync", Action, unknown> = command(
  "sql",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Print the schema as SQL."),
    description: plainText(
      "Prints the schema as one transaction, for psql or another migration tool. Needs no database.",
    ),
    footer: examplesFooter(
      ["hark sql | psql -v ON_ERROR_STOP=1 shop", "install without Deno"],
      ["hark sql --from 3 > upgrade.sql", "only what is newer than version 3"],
    ),
  },
);

async function run({ from = 0 }: InferValue<typeof options>): Promise<number> {
  const { bundleSql, schemaVersion } = await import("../schema/migrate.ts");
  if (from > schemaVersion) {
    throw new HarkError("BAD_OPTION", `--from is ${from}, and the newest is ${schemaVersion}`, {
      remedy: `Give a version from 0 to ${schemaVersion}.`,
    });
  }
  await print(bundleSql({ from }).trimEnd());
  return 0;
}
