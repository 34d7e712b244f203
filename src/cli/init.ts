/**
 * `hark init`: installs or upgrades the schema.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command } from "@optique/core/primitives";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json } from "./options.ts";
import { print, printJson } from "./output.ts";

const options = object({ ...database, json });

/** `hark init`. */
export const init: Parser<"sync", Action, unknown> = command(
  "init",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Install the schema, or upgrade it."),
    description: plainText(
      'Installs the schema "hark", or brings it up to this program\'s version. Where it is up to ' +
        "date nothing happens. Needs the right to create a schema in the database.",
    ),
    footer: examplesFooter(
      ["hark init", "in DATABASE_URL"],
      ["hark init --database-url postgres://owner@db.example/shop", "as its owner"],
    ),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { migrate } = await import("../schema/migrate.ts");
  await using db = await openDatabase(o, "init");
  const { from, to, changed } = await migrate(db);
  if (o.json) await printJson({ from: from ?? null, to, changed });
  else if (!changed) await print(`schema "hark" is up to date: version ${to}`);
  else if (from === undefined) await print(`schema "hark" installed: version ${to}`);
  else if (from === to) await print(`schema "hark": functions of version ${to} replaced`);
  else await print(`schema "hark" upgraded: version ${from} to ${to}`);
  return 0;
}
