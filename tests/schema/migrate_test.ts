import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  installedVersion,
  migrate,
  notify,
  requireSchema,
  schemaVersion,
  subscribe,
  uninstall,
} from "../../mod.ts";
import { spawn, test, type TestContext } from "../harness/mod.ts";
import { generate } from "../../sql/generate.ts";
import { bundleSql } from "../../src/schema/migrate.ts";
import { role } from "./_support/role.ts";

const empty = { schema: false };
const versions = (context: TestContext) =>
  context.sql("select version from hark.migrations order by version").then((rows) =>
    rows.map((row) => row.version)
  );
const all = Array.from({ length: schemaVersion }, (_, i) => i + 1);

test("migrate() installs, and does nothing the second time", empty, async (context) => {
  const db = context.use(await connect(context.url));
  assert.equal(await installedVersion(db), undefined);
  assert.deepEqual(await migrate(db), { from: 0, to: schemaVersion });
  assert.deepEqual(await migrate(db), { from: schemaVersion, to: schemaVersion });
  assert.equal(await installedVersion(db), schemaVersion);
  assert.deepEqual(await versions(context), all);
  await requireSchema(db);
});

test(
  "two that install at once, and ten, all succeed and make one schema",
  empty,
  async (context) => {
    for (const count of [2, 10]) {
      const clients = await Promise.all(Array.from({ length: count }, () => context.client()));
      const results = await Promise.all(clients.map((client) => migrate(client)));
      assert(results.every(({ to }) => to === schemaVersion));
      assert.deepEqual(await versions(context), all);
      await uninstall(clients[0]!);
    }
  },
);

test("migrate() joins the caller's transaction", empty, async (context) => {
  const client = await context.client();
  await client.query("begin");
  await client.query("create table orders (id int)");
  await migrate(client);
  await client.query("rollback");
  assert.equal(await installedVersion(client), undefined);
  await client.query("begin");
  await migrate(client);
  await notify(client, "c", 1);
  await client.query("commit");
  assert.deepEqual(await context.sql("select payload from hark.log"), [{ payload: 1 }]);
  assert.deepEqual(await migrate(client), { from: schemaVersion, to: schemaVersion });
});

test("the caller's search path is what it was", empty, async (context) => {
  const client = await context.client();
  const path = async () => (await client.query("show search_path")).rows[0].search_path;
  await client.query(`create schema "Odd, one"`);
  await client.query(`set search_path = "Odd, one", public`);
  const before = await path();
  await migrate(client);
  assert.equal(await path(), before);
  await uninstall(client);
  await client.query("begin; set local search_path = pg_temp");
  await migrate(client);
  assert.equal(await path(), "pg_temp");
  await client.query("create table here (n int)");
  await client.query("commit");
  assert.equal(await path(), before);
  const [{ nsp }] = await context.sql(
    "select relnamespace::regnamespace::text as nsp from pg_class where relname = 'here'",
  );
  assert.match(nsp, /^pg_temp/);
});

test(
  "an ordinary owner of a database installs, publishes, consumes and removes",
  empty,
  async (context) => {
    const owner = await role(context, { owner: true });
    const db = context.use(await connect(owner.url));
    const [{ is_superuser }] =
      (await db.query("select current_setting('is_superuser') as is_superuser"))
        .rows;
    assert.equal(is_superuser, "off");
    await migrate(db);
    const id = await notify(db, "c", 1);
    const seen: number[] = [];
    const consumer = new Consumer(db, {
      id: "c",
      channels: "c",
      handle: (n) => void seen.push(n.id),
    });
    assert.equal(await consumer.drain(), 1);
    for await (const n of subscribe(db, "c", { from: "beginning" })) {
      seen.push(n.id);
      break;
    }
    assert.deepEqual(seen, [id, id]);
    await uninstall(db);
    assert.equal(await installedVersion(db), undefined);
  },
);

test(
  "a role that may create in the database installs too; one that may not is told what to do",
  empty,
  async (context) => {
    const other = await role(context);
    const db = context.use(await connect(other.url));
    await assert.rejects(migrate(db), {
      code: "NO_PERMISSION",
      message: /cannot be installed: permission denied for database/,
      remedy: /grant create on database/,
    });
    await context.sql(`grant create on database ${context.database} to ${other.name}`);
    await migrate(db);
    await notify(db, "c", 1);
  },
);

test(
  "a schema named hark that is somebody else's is a conflict, and left alone",
  empty,
  async (context) => {
    const db = context.use(await connect(context.url));
    const makings = [
      "create schema hark",
      "create schema hark; create table hark.log (line text)",
      "create schema hark; create table hark.migrations (id text, done boolean)",
      "create schema hark; create table hark.migrations (version text); insert into hark.migrations values ('x')",
    ];
    for (const making of makings) {
      await context.sql(making);
      const before = await context.sql(
        "select relname from pg_class where relnamespace = 'hark'::regnamespace",
      );
      await assert.rejects(migrate(db), {
        code: "CONFLICT",
        message: /"hark" that Hark did not make/,
        remedy: /Rename or drop it/,
      }, making);
      assert.deepEqual(
        await context.sql("select relname from pg_class where relnamespace = 'hark'::regnamespace"),
        before,
      );
      await context.sql("drop schema hark cascade");
    }
  },
);

test("uninstall() removes all of it, also twice, also while it was used; it can be installed again", async (context) => {
  const db = context.use(await connect(context.url));
  await notify(db, "c", 1);
  await new Consumer(db, { id: "c", channels: "c", handle() {} }).drain();
  await uninstall(db);
  await uninstall(db);
  const left = await context.sql(
    "select 1 from pg_namespace where nspname = 'hark' union all select 1 from pg_class where relname ~ 'hark'",
  );
  assert.deepEqual(left, []);
  assert.deepEqual(await migrate(db), { from: 0, to: schemaVersion });
  assert.equal(await new Consumer(db, { id: "c", channels: "c", handle() {} }).drain(), 0);
});

Deno.test("the SQL in the program is that of the files", async () => {
  const bundle = await Deno.readTextFile(new URL("../../src/schema/bundle.ts", import.meta.url));
  assert(bundle === await generate(), "Run `deno task bundle`, which writes src/schema/bundle.ts.");
});

const psqlThere = await new Deno.Command("psql", { args: ["--version"] }).output()
  .then(({ success }) => success, () => false);
if (!psqlThere) console.log("psql is not on this machine: its tests are left out");

const psql = async (url: string, ...args: string[]) => {
  await using child = spawn("psql", ["-X", "-q", "-d", url, "-v", "ON_ERROR_STOP=1", ...args]);
  return await child.ended({ deadline: 60_000 });
};

test("the files install one by one with psql alone, once", {
  ...empty,
  ignore: !psqlThere,
}, async (context) => {
  const folder = new URL("../../sql/", import.meta.url);
  const names = [];
  for await (const { name } of Deno.readDir(folder)) if (name.endsWith(".sql")) names.push(name);
  for (const name of names.sort()) {
    const file = new URL(name, folder).pathname;
    const { code, stderr } = await psql(context.url, "-1", "-f", file);
    assert.equal(code, 0, stderr);
    assert.equal(stderr, "");
    const again = await psql(context.url, "-1", "-f", file);
    assert.notEqual(again.code, 0, "twice fails");
  }
  assert.deepEqual(await versions(context), all);
  const db = context.use(await connect(context.url));
  assert.deepEqual(await migrate(db), { from: schemaVersion, to: schemaVersion });
  await notify(db, "c", 1);
  assert.equal(await new Consumer(db, { id: "c", channels: "c", handle() {} }).drain(), 1);
});

test("bundleSql() is the whole installation as text", empty, async (context) => {
  const client = await context.client();
  await client.query(bundleSql());
  assert.deepEqual(await versions(context), all);
  await assert.rejects(client.query(bundleSql()), /already exists/);
  await client.query("rollback");
  assert.deepEqual(await versions(context), all);
  const rest = bundleSql({ from: schemaVersion });
  assert.equal(rest.replaceAll(/\s+/g, " ").trim(), "begin; commit;");
});
