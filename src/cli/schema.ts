/**
 * `hark init`, `hark sql` and `hark uninstall`: install, print and remove the schema.
 *
 * @module
 */

import type { Queryable } from "../database/queryable.ts";
import { HarkError } from "../errors.ts";
import { databaseCommand, localCommand } from "./args/command.ts";
import { refuse, toggle } from "./args/options.ts";
import { exitCodes } from "./exit_codes.ts";
import { print } from "./print/output.ts";
import { nothingIsRemoved } from "./retention.ts";
import { visible } from "./print/style.ts";
import { blocks, tableOf } from "./print/table.ts";
import { countText } from "./print/text.ts";

/** `hark init`. */
export const init = databaseCommand({
  name: "init",
  brief: "Install the schema, or upgrade it.",
  description:
    'Installs the schema "hark", or upgrades it to this program\'s version. It does nothing if the ' +
    "schema is up to date. A role that installs it needs the right to create a schema in the database. " +
    "Only the schema's owner, a member of that role or a superuser can upgrade it. What an upgrade adds " +
    "belongs to the owner.",
  examples: [
    ["hark init", "in DATABASE_URL"],
    ["hark init --database-url postgres://owner@db.example/shop", "as the database's owner"],
  ],
  async run(db) {
    const { migrate } = await import("../schema/migrate.ts");
    const { from, to, changed } = await migrate(db);
    const kept = await keepsAll(db) ? `\n${nothingIsRemoved}` : "";
    return {
      json: { from: from ?? null, to, changed },
      text: `schema "hark" ${
        !changed
          ? `is up to date: version ${to}`
          : from === undefined
          ? `is installed: version ${to}`
          : from === to
          ? `has new functions: version ${to}`
          : `is upgraded: version ${from} to ${to}`
      }${kept}`,
    };
  },
});

/** Whether nothing is ever removed. False also if the role may not know it: then it is not its task. */
async function keepsAll(db: Queryable): Promise<boolean> {
  const { retention } = await import("../operate/retention.ts");
  try {
    return (await retention(db)).length === 0;
  } catch (error) {
    if (error instanceof HarkError && error.code === "NO_PERMISSION") return false;
    throw error;
  }
}

/** `hark sql`. */
export const sql = localCommand({
  name: "sql",
  brief: "Print the schema as SQL.",
  description:
    "Prints one SQL statement for psql or another migration tool. It installs the schema, " +
    "upgrades an earlier version, or does nothing if the schema is up to date. It needs no " +
    "database.",
  examples: [
    ["hark sql > hark.sql; psql -1 -f hark.sql shop", "install or upgrade without Deno"],
  ],
  async run() {
    const { schemaSql } = await import("../schema/migrate.ts");
    await print((await schemaSql()).trimEnd());
    return exitCodes.ok;
  },
});

/** Counting stops here, so that it is quick for a large log too. */
const most = 1_000_000;

/** `hark uninstall`. */
export const uninstall = databaseCommand({
  name: "uninstall",
  brief: "Remove the schema and everything in it.",
  description:
    'Removes the schema "hark" with every notification and every consumer\'s position, and the ' +
    "triggers of watched tables. This cannot be undone. Without --yes it shows what would be lost " +
    "and exits with 2.",
  examples: [
    ["hark uninstall", "show what would be lost"],
    ["hark uninstall --yes", "remove it"],
  ],
  options: { yes: toggle("--yes", "Remove it. Without this, nothing is removed.") },
  async run(db, o) {
    const { installedVersion } = await import("../schema/migrate.ts");
    const { uninstall } = await import("../schema/uninstall.ts");
    if (await installedVersion(db) === undefined) {
      const json = { removed: false, notifications: 0, consumers: 0 };
      return { json, text: 'there is no schema "hark" in this database' };
    }
    const { notifications, consumers } = await contents(db);
    const held = `${notifications > most ? "over " : ""}${
      countText(Math.min(notifications, most), "notification")
    } and ${countText(consumers, "consumer")}`;
    if (!o.yes) {
      refuse(
        `this would remove ${held} for good`,
        "If that is what you want: hark uninstall --yes",
      );
    }
    const { left } = await uninstall(db);
    return {
      json: { removed: true, notifications, consumers, left },
      text: blocks(
        `schema "hark" is removed, with ${held}`,
        tableOf(
          left,
          "triggers left on, owner, they publish nothing now; to remove them",
          (one) => [
            one.tables.join(", "),
            one.owner,
            `drop function ${visible(one.function)} cascade`,
          ],
        ),
      ),
    };
  },
});

async function contents(db: Queryable): Promise<{ notifications: number; consumers: number }> {
  const { rows } = await db.query(
    `select (select count(*) from (select from hark.log limit $1::integer) l) as notifications,
      (select count(*) from hark.consumers) as consumers`,
    [most + 1],
  );
  return { notifications: Number(rows[0].notifications), consumers: Number(rows[0].consumers) };
}
