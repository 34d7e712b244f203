import assert from "node:assert/strict";
import {
  connect,
  Consumer,
  installedVersion,
  migrate,
  notify,
  requireSchema,
  schemaSql,
  schemaVersion,
  subscribe,
  uninstall,
} from "../../mod.ts";
import { scratch, spawn, test, type TestContext } from "../harness/mod.ts";
import { role } from "./_support/role.ts";

const empty = { schema: false };
const installed = { from: undefined, to: schemaVersion, changed: true };
const upToDate = { from: schemaVersion, to: schemaVersion, changed: false };
const rows = (context: TestContext) => context.sql("select version from hark.schema_version");
const one = [{ version: schemaVersion }];

test("migrate() installs, and does nothing the second time", empty, async (context) => {
  const db = context.use(await connect(context.url));
  assert.equal(await installedVersion(db), undefined);
  assert.deepEqual(await migrate(db), installed);
  assert.deepEqual(await migrate(db), upToDate);
  assert.equal(await installedVersion(db), schemaVersion);
  assert.deepEqual(await rows(context), one);
  await requireSchema(db);
});

test("a schema of another build of the same version is refused, with what to do", async (context) => {
  const db = context.use(await connect(context.url));
  const drop = "drop function hark.relay_status()";
  await context.sql(drop);
  await context.sql("create function hark.relay_status() returns text language sql as 'select 1'");
  await context.sql("update hark.schema_version set functions = 'others'");
  await assert.rejects(() => migrate(db), (error: Error & { code: string }) => {
    assert.equal(error.code, "CONFLICT");
    assert(error.message.includes(`another build of ${schemaVersion}`), error.message);
    assert(error.message.includes(`Run: ${drop}; then hark init`), error.message);
    return true;
  });
  await context.sql(drop);
  assert.deepEqual(await migrate(db), { ...upToDate, changed: true });
});

test(
  "two that install at once, and ten, all succeed and make one schema",
  empty,
  async (context) => {
    for (const count of [2, 10]) {
      const clients = await Promise.all(Array.from({ length: count }, () => context.client()));
      const results = await Promise.all(clients.map((client) => migrate(client)));
      assert(results.every(({ to }) => to === schemaVersion));
      assert.deepEqual(await rows(context), one);
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
  assert.deepEqual(await migrate(client), upToDate);
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

test("a role that may only publish finds it up to date, or is told which role upgrades it", async (context) => {
  const publisher = await role(context);
  const db = context.use(await connect(publisher.url));
  const [{ owner }] = await context.sql("select current_user::text as owner");
  const refusal = {
    code: "NO_PERMISSION",
    message: new RegExp(`role "${publisher.name}" may not upgrade the schema "hark": permission`),
    remedy: new RegExp(
      `its owner "${owner}" or a superuser may: hark init --database-url postgres://${owner}@HOST/${context.database}$`,
    ),
  };
  await assert.rejects(migrate(db), refusal);
  await context.sql(`select hark.grant_publish('${publisher.name}')`);
  assert.deepEqual(await migrate(db), upToDate);
  await context.sql("update hark.schema_version set functions = 'others'");
  await assert.rejects(migrate(db), refusal);
  await assert.rejects(
    db.transaction((tx) => migrate(tx)),
    { code: "NO_PERMISSION", message: /Only its owner or a superuser may upgrade it/ },
  );
});

test(
  "a schema named hark that Hark did not create is a conflict, and left alone",
  empty,
  async (context) => {
    const db = context.use(await connect(context.url));
    const makings = [
      "create schema hark",
      "create schema hark; create table hark.log (line text)",
      "create schema hark; create table hark.schema_version (id text, done boolean)",
      "create schema hark; create table hark.schema_version (version text); insert into hark.schema_version values ('x')",
    ];
    for (const making of makings) {
      await context.sql(making);
      const before = await context.sql(
        "select relname from pg_class where relnamespace = 'hark'::regnamespace",
      );
      await assert.rejects(migrate(db), {
        code: "CONFLICT",
        message: /"hark" that Hark did not create/,
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

test(
  "who owns an empty schema named hark, and may create none, is told that it is in the way",
  empty,
  async (context) => {
    const owner = await role(context);
    await context.sql(`create schema hark authorization ${owner.name}`);
    const db = context.use(await connect(owner.url));
    await assert.rejects(migrate(db), {
      code: "CONFLICT",
      message: /"hark" that Hark did not create/,
    });
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
  assert.deepEqual(await migrate(db), installed);
  assert.equal(await new Consumer(db, { id: "c", channels: "c", handle() {} }).drain(), 0);
});

const psqlThere = await new Deno.Command("psql", { args: ["--version"] }).output()
  .then(({ success }) => success, () => false);
if (!psqlThere) console.log("psql is not on this machine: its tests are left out");

const psql = async (url: string, ...args: string[]) => {
  await using child = spawn("psql", ["-X", "-q", "-d", url, "-v", "ON_ERROR_STOP=1", ...args]);
  return await child.ended({ deadline: 60_000 });
};

test("psql installs what `hark sql` prints, with a transaction of its own and without", {
  ...empty,
  ignore: !psqlThere,
}, async (context) => {
  const db = context.use(await connect(context.url));
  await using folder = await scratch();
  const file = `${folder.path}/hark.sql`;
  await Deno.writeTextFile(file, await schemaSql());
  for (const args of [["-f", file], ["-1", "-f", file]]) {
    for (const _ of ["install", "nothing to do"]) {
      assert.deepEqual(await psql(context.url, ...args), {
        code: 0,
        signal: null,
        stdout: "",
        stderr: "",
      });
      assert.deepEqual(await rows(context), one);
    }
    assert.deepEqual(await migrate(db), upToDate);
    await notify(db, "c", 1);
    assert.equal(await new Consumer(db, { id: "c", channels: "c", handle() {} }).drain(), 1);
    await uninstall(db);
  }
});
