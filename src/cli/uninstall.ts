/**
 * `hark uninstall`: removes the schema with all that is in it.
 *
 * @module
 */

import { object } from "@optique/core/constructs";
import { map } from "@optique/core/modifiers";
import type { InferValue, Parser } from "@optique/core/parser";
import { command } from "@optique/core/primitives";
import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import { examplesFooter, plainText } from "./help.ts";
import { type Action, database, json, toggle } from "./options.ts";
import { countText, print, printJson, visible } from "./output.ts";

/** Nobody needs the exact size of a log larger than this. */
const COUNTED = 1_000_000;

const options = object({
  ...database,
  json,
  yes: toggle("--yes", "Do it. Without this, nothing is removed."),
});

/** `hark uninstall`. */
export const uninstall: Parser<"sync", Action, unknown> = command(
  "uninstall",
  map(options, (o) => () => run(o)),
  {
    brief: plainText("Remove the schema and all it holds."),
    description: plainText(
      'Removes the schema "hark" with every notification and every consumer\'s position, and ' +
        "the triggers of watched tables. There is no way back. Without --yes it says what would be lost, and exits with 2.",
    ),
    footer: examplesFooter(
      ["hark uninstall", "say what would be lost"],
      ["hark uninstall --yes", "remove it"],
    ),
  },
);

async function run(o: InferValue<typeof options>): Promise<number> {
  const { openDatabase } = await import("./database.ts");
  const { installedVersion } = await import("../schema/migrate.ts");
  const { uninstall } = await import("../schema/uninstall.ts");
  await using db = await openDatabase(o, "uninstall");
  if (await installedVersion(db) === undefined) {
    if (o.json) await printJson({ removed: false, notifications: 0, consumers: 0 });
    else await print('there is no schema "hark" in this database');
    return 0;
  }
  const { notifications, consumers } = await contents(db);
  const held = `${notifications > COUNTED ? "over " : ""}${
    countText(Math.min(notifications, COUNTED), "notification")
  } and ${countText(consumers, "consumer")}`;
  if (!o.yes) {
    throw new HarkError("BAD_OPTION", `this would remove ${held} for good`, {
      remedy: "If that is what you want: hark uninstall --yes",
    });
  }
  const { left } = await uninstall(db);
  if (o.json) await printJson({ removed: true, notifications, consumers, left });
  else await print(`schema "hark" removed, with ${held}`);
  for (const one of o.json ? [] : left) {
    await print(
      `left: triggers on ${visible(one.tables.join(", "))}, which publish nothing any more; as ` +
        `"${visible(one.owner)}": drop function ${visible(one.function)} cascade`,
    );
  }
  return 0;
}

async function contents(db: Queryable): Promise<{ notifications: number; consumers: number }> {
  const { rows } = await db.query(
    `select (select count(*) from (select from hark.log limit $1::integer) l) as notifications,
      (select count(*) from hark.consumers) as consumers`,
    [COUNTED + 1],
  );
  return { notifications: Number(rows[0].notifications), consumers: Number(rows[0].consumers) };
}
