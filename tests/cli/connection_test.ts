import assert from "node:assert/strict";
import { join } from "node:path";
import { ownServer, PROJECT, scratch, test } from "../harness/mod.ts";
import { oneByOne, output, ran, refused } from "./_support/hark.ts";

/** Every command that uses a database, with what it needs to get that far. */
const commands: readonly string[][] = [
  ["notify", "orders", "{}"],
  ["tail", "--limit", "1"],
  ["status"],
  ["watch", "list"],
  ["cleanup", "--older-than", "1d"],
  ["listen", join(PROJECT, "examples", "consumers")],
];

Deno.test("every command says that the server cannot be reached, and exits with 3", async () => {
  const url = "postgres://someone:secret@127.0.0.1:1/shop";
  await oneByOne([...commands, ["init"], ["uninstall", "--yes"]], async (args) => {
    await refused(args, 3, /no connection to PostgreSQL.*Check that the server runs/, {
      url,
      here: true,
    });
  });
  await refused(["status", "--database-url", url], 3, /someone:\*\*\*@127/);
});

Deno.test("a URL that is none is refused, and so is a missing one", async () => {
  await using folder = await scratch();
  await refused(["status"], 2, /mysql:\/\/a.*Give postgres:\/\/user:password@host/, {
    url: "mysql://a",
  });
  await refused(["status", "--database-url", ""], 2, /--database-url is empty/);
  await refused(["status"], 3, /no database[^]*hark dev/, { cwd: folder.path });
});

Deno.test("no message of a command shows a password, wherever it was written", async () => {
  const url = "postgres://u:s3cret@127.0.0.1:1/d";
  for (
    const args of [
      ["status", url],
      ["status", `--database-urls=${url}`],
      ["status", "--database-url", "host=127.0.0.1 password=s3cret"],
      ["status", "--database-url", `${url}?password=s3cret&sslpassword=s3cret`],
      ["status", "host=127.0.0.1 password=s3cret"],
      [url],
      [`--database-url=${url}`, "status"],
      ["status", "--help"],
      ["tail", "--limit", url],
      ["watch", url],
    ]
  ) {
    for (const given of [url, "host=h password=s3cret", "s3cret"]) {
      const { code, stdout, stderr } = await ran(args, { url: given });
      assert.doesNotMatch(`${stdout}${stderr}`, /s3cret/, args.join(" "));
      assert.equal(code === 0, args.includes("--help"), args.join(" "));
    }
  }
});

test("every command asks for `hark init` where the schema is missing", {
  schema: false,
}, async ({ url }) => {
  await oneByOne(commands, async (args) => {
    await refused(args, 4, /not installed in this database[^]*hark init/, { url, here: true });
  });
});

test("every command refuses a schema that is newer or older than itself", async ({ url, sql }) => {
  await sql("update hark.schema_version set version = '7.0.0'");
  await oneByOne([...commands, ["init"]], async (args) => {
    if (args[0] === "notify") return; // the functions that publish stay
    await refused(args, 4, /has version 7\.0\.0[^]*newer version of Hark/, { url, here: true });
  });
  await sql("update hark.schema_version set version = '0.0.9'");
  await refused(["status"], 4, /needs \d+\.\d+\.\d+[^]*hark init/, { url });
});

Deno.test("a wrong password, a missing database and missing rights are told apart", async () => {
  await using server = await ownServer();
  await server.sql("create role poor login password 'right'");
  const as = (change: (url: URL) => void) => {
    const url = new URL(server.url);
    change(url);
    return url.href;
  };
  const wrong = as((url) => url.password = "wrong");
  await refused(["status"], 3, /refused the login.*Check the user and the password/, {
    url: wrong,
  });
  const none = as((url) => url.password = "");
  await refused(["status"], 3, /login failed.*password/, { url: none, here: false });
  const elsewhere = as((url) => url.pathname = "/nowhere");
  await refused(["status"], 3, /"nowhere" does not exist/, { url: elsewhere });

  const poor = as((url) => {
    url.username = "poor";
    url.password = "right";
  });
  await oneByOne(commands, async (args) => {
    await refused(args, 1, /permission denied[^]*hark\.grant_publish/, { url: poor, here: true });
  });
  const owner = /role "poor" may not upgrade[^]*permission denied[^]*hark init --database-url/;
  await refused(["init"], 1, owner, { url: poor, here: true });
  await server.sql("select hark.grant_publish('poor')");
  assert.equal(await output(["notify", "orders"], { url: poor }), "orders #1\n");
  await refused(
    ["cleanup", "--older-than", "1d"],
    1,
    /permission denied for function empty_segment/,
    {
      url: poor,
    },
  );
});
