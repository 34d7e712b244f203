import assert from "node:assert/strict";
import { connect } from "../../mod.ts";
import { isPassing, translate } from "../../src/database/translate.ts";
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

test("the remedy for a right that is missing names every grant that gives the function", async ({ sql }) => {
  const [{ names, tables }] = await sql(`select
    (select jsonb_agg(distinct p.proname) from pg_proc p where p.pronamespace = 'hark'::regnamespace) as names,
    (select jsonb_agg(c.relname) from pg_class c
      where c.relnamespace = 'hark'::regnamespace and c.relkind = any ('{r, p}') and c.relname !~ '^log_')
      as tables`);
  const remedyOf = (what: string, name: string) => {
    const error = new Error(`permission denied for ${what} ${name}`);
    return translate(Object.assign(error, { code: "42501" })).remedy ?? "";
  };
  for (const kind of ["publish", "consume", "operate"]) {
    const [{ given }] = await sql("select hark.functions_for($1) as given", [kind]);
    const told = names.filter((name: string) =>
      remedyOf("function", name).includes(`hark.grant_${kind}(`)
    );
    assert.deepEqual(told.sort(), given.sort(), kind);
  }
  for (const name of [...tables, "log_overflow"]) {
    assert.match(remedyOf("table", name), /Only the owner of the schema/, name);
  }
});
