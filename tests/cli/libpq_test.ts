import assert from "node:assert/strict";
import { join } from "node:path";
import { urlFromVariables } from "../../src/database/environment.ts";
import { ownServer, PROJECT, scratch, spawnDeno, test } from "../harness/mod.ts";
import { oneByOne, output, ran, refused, rightsOf } from "./_support/hark.ts";

/** The variables of libpq for a URL. */
function variablesOf(url: string): Record<string, string> {
  const { hostname, port, username, password, pathname } = new URL(url);
  return {
    PGHOST: hostname,
    PGPORT: port || "5432",
    PGUSER: decodeURIComponent(username),
    PGPASSWORD: decodeURIComponent(password),
    PGDATABASE: pathname.slice(1),
  };
}

Deno.test("the variables of libpq make the URL that psql would connect to", () => {
  const made: [Record<string, string>, string | undefined][] = [
    [{ PGHOST: "db.example", PGDATABASE: "shop" }, "postgres://db.example/shop"],
    [{ PGDATABASE: "shop" }, "postgres://localhost/shop"],
    [{ PGHOST: "db.example", PGUSER: "me" }, "postgres://me@db.example/"],
    [
      { PGHOST: "h", PGPORT: "5433", PGUSER: "a@b", PGPASSWORD: "p/w:?", PGDATABASE: "d d" },
      "postgres://a%40b:p%2Fw%3A%3F@h:5433/d%20d",
    ],
    [{ PGHOST: "::1", PGDATABASE: "d" }, "postgres://[::1]/d"],
    [
      { PGHOST: "/run/postgresql", PGPORT: "5433", PGUSER: "me", PGDATABASE: "d" },
      "postgres://me@/d?host=%2Frun%2Fpostgresql&port=5433",
    ],
    [{ PGHOST: "", PGDATABASE: "" }, undefined],
    [{ PGUSER: "me", PGPASSWORD: "secret", PGPORT: "5433" }, undefined],
  ];
  for (const [variables, url] of made) {
    assert.equal(urlFromVariables((name) => variables[name]), url, JSON.stringify(variables));
  }
});

test("PGHOST, PGDATABASE and the like are enough for every command, with the rights of its task", async ({ url }) => {
  const env = variablesOf(url);
  await oneByOne([
    ["notify", "orders", '{"id":1}'],
    ["status"],
    ["tail", "--from", "beginning", "--limit", "1"],
    ["listen", join(PROJECT, "examples/consumers/orders.ts"), "--drain"],
  ], async (args) => {
    const { code, stderr } = await ran(args, { env });
    assert.equal(code, 0, stderr);
  });
});

test("connect() without a URL takes them too", async ({ url }) => {
  await using folder = await scratch();
  const program = join(folder.path, "program.ts");
  await Deno.writeTextFile(
    program,
    `import { connect, notify } from ${JSON.stringify(join(PROJECT, "mod.ts"))};
    await using db = await connect(Deno.env.get("DATABASE_URL"));
    console.log("published", await notify(db, "orders", {}));`,
  );
  const run = (env: Record<string, string>) =>
    spawnDeno([program], {
      env: { DATABASE_URL: "", ...env },
      permissions: ["--allow-net", "--allow-env"],
    });
  await using child = run(variablesOf(url));
  await child.line(/^published 1$/);
  await using none = run({ PGUSER: "me" });
  await none.line(
    /there is no database URL\. Set DATABASE_URL, or PGHOST, PGDATABASE and the like/,
  );
});

test("DATABASE_URL comes before them, and alone the others name no database", async (context) => {
  const { url } = context;
  const elsewhere = { PGHOST: "127.0.0.1", PGPORT: "1", PGDATABASE: "nowhere" };
  assert.match(await output(["status"], { url, variables: elsewhere }), /no consumer/);
  await using folder = await scratch();
  const lone = { variables: { PGUSER: "me", PGPORT: "5433" }, cwd: folder.path };
  await refused(["status"], 3, /Set DATABASE_URL, or PGHOST, PGDATABASE[^]*--database-url/, lone);
  const service = { variables: { PGSERVICE: "shop" } };
  await refused(["status"], 2, /PGSERVICE names a service.*Set PGHOST and PGDATABASE/, service);
  const secret = { variables: { ...elsewhere, PGUSER: "u", PGPASSWORD: "s3cret" } };
  const { code, stderr } = await ran(["status"], secret);
  assert.equal(code, 3);
  assert.match(stderr, /postgres:\/\/u:\*\*\*@127\.0\.0\.1:1\/nowhere/);
  assert.doesNotMatch(stderr, /s3cret/);
});

Deno.test("PGSSLMODE and PGPASSFILE count as well", async () => {
  await using server = await ownServer();
  await using folder = await scratch();
  const { PGPASSWORD, ...rest } = variablesOf(server.url);
  const file = join(folder.path, "passwords");
  await Deno.writeTextFile(file, `127.0.0.1:*:*:*:${PGPASSWORD}\n`, { mode: 0o600 });
  const env = { ...rest, PGPASSFILE: file };
  // A task may read no file outside of its folders.
  const permissions = [...rightsOf("status"), `--allow-read=${folder.path}`];
  const { code, stderr } = await ran(["status"], { env, permissions });
  assert.equal(code, 0, stderr);
  const secure = await ran(["status"], { env: { ...env, PGSSLMODE: "require" }, permissions });
  assert.notEqual(secure.code, 0, secure.stdout);
  assert.match(secure.stderr, /does not support SSL/);
});
