import postgres from "npm:postgres@3.4.9";
import { test } from "../harness/mod.ts";
import { watchedBy } from "./_support/any_driver.ts";

test("any driver will do: postgres.js, wrapped in a line", async (c) => {
  await c.sql("create table users (id integer primary key, email text)");
  await c.sql("insert into users values (1, 'a')");
  const sql = postgres(c.url, {
    max: 1,
    connection: { application_name: c.appName },
    onnotice: () => {}, // of all that uninstall drops
  });
  try {
    await watchedBy({
      query: async (text, values = []) => ({ rows: await sql.unsafe(text, values as string[]) }),
    });
  } finally {
    await sql.end();
  }
});
