/**
 * `hark init`: installs or upgrades the schema.
 *
 * @module
 */

import { databaseCommand } from "./command.ts";

/** `hark init`. */
export const init = databaseCommand({
  name: "init",
  brief: "Install the schema, or upgrade it.",
  description:
    'Installs the schema "hark", or upgrades it to this program\'s version. It does nothing if the ' +
    "schema is up to date. It needs the right to create a schema in the database.",
  examples: [
    ["hark init", "in DATABASE_URL"],
    ["hark init --database-url postgres://owner@db.example/shop", "as the database's owner"],
  ],
  async run(db) {
    const { migrate } = await import("../schema/migrate.ts");
    const { from, to, changed } = await migrate(db);
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
      }`,
    };
  },
});
