import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { isPassing } from "../../src/database/translate.ts";
import { HarkError } from "../../src/errors.ts";
import { test } from "../harness/mod.ts";

test("an error of the user's own SQL is not taken for one of Hark's or of the connection", async (context) => {
  const db = context.use(await connect(context.url));
  await db.query("create table accounts (password text not null)");
  const statements = [
    "insert into accounts values (null)",
    "select password from pg_catalog.pg_class",
    "do $$ begin raise exception 'the password is too short'; end $$",
    "do $$ begin raise exception 'Connection terminated, says the user'; end $$",
    "select * from nowhere.at_all",
    "select 'x'::integer",
  ];
  for (const statement of statements) {
    await assert.rejects(db.query(statement), (error: unknown) => {
      assert(error instanceof HarkError);
      assert.equal(error.code, "DATABASE", statement);
      assert.equal(error.remedy?.includes("hark"), undefined, statement);
      assert.equal(isPassing(error), false, statement);
      return true;
    });
  }
});
