import assert from "node:assert/strict";
import { connect, uninstall, watch } from "../../mod.ts";
import { test } from "../harness/mod.ts";
import { users, withUsers } from "./_support/users.ts";

test("uninstall() takes the triggers along", async (c) => {
  const db = await withUsers(c);
  await watch(db, users, { snapshot: true });
  await watch(db, "users", { name: "second" });
  await c.sql("create table gone (id integer primary key)");
  await watch(db, "gone");
  await c.sql("drop table gone");
  assert.deepEqual(await uninstall(db), { left: [] });
  const left = await c.sql(
    "select proname from pg_proc where proname ~ '^hark_' union all select tgname from pg_trigger where tgname ~ 'hark'",
  );
  assert.deepEqual(left, []);
  await db.query("insert into users values (1, 'a')");
});

test("uninstall() by one who does not own a watched table says what is left", async (c) => {
  const db = await withUsers(c);
  const role = `r_${c.database}`;
  await c.sql(`create role ${role} login password 'of a test'`);
  try {
    await watch(db, users);
    await c.sql(`alter schema hark owner to ${role}`);
    await c.sql(`do $$ declare r record; begin
      for r in select oid::regprocedure as f from pg_proc where pronamespace = 'hark'::regnamespace loop
        execute format('alter function %s owner to ${role}', r.f);
      end loop;
      for r in select oid::regclass as t from pg_class where relnamespace = 'hark'::regnamespace and relkind in ('r', 'v', 'p') loop
        execute format('alter table %s owner to ${role}', r.t);
      end loop;
    end $$`);
    const url = new URL(c.url);
    url.username = role;
    url.password = "of a test";
    const theirs = c.use(await connect(url.href));
    const { left } = await uninstall(theirs);
    assert.deepEqual(left.map(({ owner, tables }) => ({ owner, tables })), [
      { owner: new URL(c.url).username, tables: ["users"] },
    ]);
    await db.query("insert into users values (1, 'written all the same')");
    await c.sql(`drop function ${left[0]!.function} cascade`);
    assert.deepEqual(await uninstall(theirs), { left: [] });
    await theirs.close();
  } finally {
    await c.sql(`drop owned by ${role} cascade`);
    await c.sql(`drop role ${role}`);
  }
});
