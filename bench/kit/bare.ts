/** A test with a database of PGlite and nothing else. */

import { PGlite } from "npm:@electric-sql/pglite@0.5.16";

Deno.test("one row", async () => {
  await using db = await PGlite.create();
  await db.query("select 1");
});
