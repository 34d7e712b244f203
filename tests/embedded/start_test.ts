import assert from "node:assert/strict";
import { join } from "node:path";
import { HarkError } from "../../src/errors.ts";
import { type EmbeddedOptions, findEmbedded, startEmbedded } from "../../src/embedded/mod.ts";
import { once, scratch } from "../harness/mod.ts";

const WINDOWS = Deno.build.os === "windows";

async function fails(options: EmbeddedOptions, code: string, message: RegExp): Promise<void> {
  await assert.rejects(startEmbedded(options), (error) => {
    assert(error instanceof HarkError);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert(error.remedy, "an error says what to do next");
    return true;
  });
}

Deno.test("a server started again on its folder has its password and its data", async () => {
  await using folder = await scratch();
  const dataDir = join(folder.path, "data");
  let first: string;
  {
    await using server = await startEmbedded({ dataDir });
    first = server.url;
    assert.match(server.version, /^\d+\.\d+/);
    await once(server.url, "create table kept as select 7 as n");
  }
  assert.equal(await findEmbedded(dataDir), undefined, "disposing stops it");

  await using server = await startEmbedded({ dataDir });
  // Its port too, unless another program's connection has been given that since.
  const again = new URL(server.url);
  again.port = new URL(first).port;
  assert.equal(again.href, first);
  assert.deepEqual(await once(server.url, "select n from kept"), [{ n: 7 }]);
});

Deno.test("a stopped server starts again on the same port", async () => {
  await using server = await startEmbedded({ ephemeral: true });
  const { url, pid } = server;
  for (const mode of ["fast", "immediate", "smart"] as const) {
    await server.stop(mode);
    assert.equal(server.pid, undefined);
    await assert.rejects(once(url, "select 1"), { code: "ECONNREFUSED" });
    await server.start();
    assert.equal(server.url, url);
    assert.notEqual(server.pid, pid);
    assert.deepEqual(await once(url, "select 1 as one"), [{ one: 1 }]);
  }
});

Deno.test("an ephemeral server that does not start leaves its place free for the next one", async () => {
  await using folder = await scratch();
  const dataDir = join(folder.path, "data");
  const options = { dataDir, ephemeral: true, settings: { work_mem: "none" } };
  await fails(options, "EMBEDDED", /work_mem/);
  await fails(options, "EMBEDDED", /work_mem/);
});

Deno.test("a second terminal finds the server while it runs", async () => {
  await using folder = await scratch();
  const dataDir = join(folder.path, "data");
  assert.equal(await findEmbedded(dataDir), undefined);
  await using server = await startEmbedded({ dataDir });
  assert.equal(await findEmbedded(dataDir), server.url);
  await server.kill();
  assert.equal(await findEmbedded(dataDir), undefined);
  await server.start(); // which frees the shared memory of the killed one
});

Deno.test("the server knows text, is private to its user, and listens on 127.0.0.1 only", async () => {
  await using folder = await scratch();
  const dataDir = join(folder.path, "data");
  await using server = await startEmbedded({ dataDir, settings: { work_mem: "5MB" } });
  const [row] = await once(
    server.url,
    `select current_database() as db, current_user as role, upper('äé') as upper,
            current_setting('server_encoding') as encoding,
            current_setting('listen_addresses') as listen,
            current_setting('unix_socket_directories') as sockets,
            current_setting('work_mem') as work_mem`,
  );
  assert.deepEqual(row, {
    db: "hark",
    role: "hark",
    upper: "ÄÉ",
    encoding: "UTF8",
    listen: "127.0.0.1",
    sockets: "",
    work_mem: "5MB",
  });
  const stranger = new URL(server.url);
  stranger.password = "guess";
  await assert.rejects(once(stranger.href, "select 1"), { code: "28P01" });
  const record = join(folder.path, "server.json");
  assert.equal(JSON.parse(await Deno.readTextFile(record)).url, server.url);
  if (!WINDOWS) assert.equal((await Deno.stat(record)).mode! & 0o777, 0o600);
});

Deno.test("an ephemeral server leaves nothing behind, even when it was killed", async () => {
  const server = await startEmbedded({ ephemeral: true });
  await once(server.url, "select 1");
  await server.kill();
  await server[Symbol.asyncDispose]();
  await assert.rejects(Deno.stat(server.dataDir), Deno.errors.NotFound);
  await assert.rejects(Deno.stat(join(server.dataDir, "..")), Deno.errors.NotFound);
});

Deno.test("an error says what is wrong with a start, and what to do", async (t) => {
  await using folder = await scratch();
  const path = (name: string) => join(folder.path, name);

  await t.step("options that make no sense", async () => {
    await fails({ port: 0 }, "BAD_OPTION", /port 0 is not a TCP port/);
    await fails({ version: "new" }, "BAD_OPTION", /version "new"/);
    await fails({ ephemeral: true, settings: { "a b": "1" } }, "BAD_OPTION", /"a b"/);
    await fails({ ephemeral: true, dataDir: folder.path }, "BAD_OPTION", /exists already/);
  });
  await t.step("a taken port", async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    await fails({ ephemeral: true, port }, "EMBEDDED", new RegExp(`port ${port} .* is taken`));
  });
  await t.step("a folder of something else", async () => {
    await Deno.mkdir(path("mine"));
    await Deno.writeTextFile(path("mine/notes.txt"), "");
    await fails({ dataDir: path("mine") }, "EMBEDDED", /not made by Hark/);
  });
  await t.step("programs that are not there, or of another version", async () => {
    await fails({ ephemeral: true, binaries: path("nowhere") }, "EMBEDDED", /nowhere/);
    for (const binaries of ["system", "npm"]) {
      await fails({ ephemeral: true, binaries, version: "99" }, "EMBEDDED", /no PostgreSQL 99/);
    }
  });
  await t.step("a setting the server does not know", async () => {
    await fails(
      { ephemeral: true, settings: { wrok_mem: "1MB" } },
      "EMBEDDED",
      /did not start: .*wrok_mem/,
    );
  });
  await t.step("data of another version", async () => {
    await using server = await startEmbedded({ dataDir: path("data") });
    const major = Number.parseInt(server.version);
    await fails(
      { dataDir: path("data"), version: String(major === 14 ? 15 : 14) },
      "EMBEDDED",
      new RegExp(`created by PostgreSQL ${major}`),
    );
  });
});
