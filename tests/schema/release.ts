/**
 * Keeps the schema of a release, so that later versions are tested to upgrade from it. Run once, when the
 * release is made: `deno task release-schema`.
 *
 * @module
 */

import { schemaSql } from "../../src/schema/migrate.ts";
import { schemaVersion } from "../../src/schema/version.ts";

const file = new URL(`./released/${schemaVersion}.sql`, import.meta.url);
await Deno.writeTextFile(file, await schemaSql());
console.log(`tests/schema/released/${schemaVersion}.sql is written`);
