import assert from "node:assert/strict";
import { join } from "node:path";
import { reachablePlace, SHARED_FOLDER } from "../../src/embedded/account.ts";
import { findEmbedded, startEmbedded } from "../../src/embedded/mod.ts";
import { once, PROJECT, scratch, spawnDeno } from "../harness/mod.ts";

const ROOT = Deno.build.os !== "windows" && Deno.uid() === 0;
const NOBODY = { uid: 65_534, gid: 65_534 };
/** Whether another user can read this project at all: not if it lies below root's home. */
const OPEN = ROOT && await reachablePlace(NOBODY, join(PROJECT, "mod.ts"), false) ===
    join(PROJECT, "mod.ts");

Deno.test("root gets a server too: it runs as an ordinary user", { ignore: !ROOT }, async () => {
  await using server = await startEmbedded({ ephemeral: true });
  assert.notEqual((await Deno.stat(server.dataDir)).uid, 0);
  assert.deepEqual(await once(server.url, "select 1 as one"), [{ one: 1 }]);
});

Deno.test(
  "root gets a server for a project below a private folder",
  { ignore: !ROOT },
  async () => {
    await using folder = await scratch(0o700);
    const dataDir = join(folder.path, "data");
    let real: string;
    {
      await using server = await startEmbedded({ dataDir, ephemeral: true });
      real = server.dataDir;
      assert(real.startsWith(`${SHARED_FOLDER}/`), real);
      assert.equal(await findEmbedded(dataDir), server.url, "it is recorded in the project");
      await using same = await startEmbedded({ dataDir });
      assert.equal(same.pid, server.pid);
    }
    await assert.rejects(Deno.stat(real), Deno.errors.NotFound);
  },
);

Deno.test("an ordinary user gets a server, twice", { ignore: !OPEN }, async () => {
  await using folder = await scratch();
  const { uid, gid } = NOBODY;
  await Deno.chown(folder.path, uid, gid);
  const dataDir = join(folder.path, "state", "data");
  for (let time = 0; time < 2; time++) {
    await using child = spawnDeno([
      "tests/embedded/_support/worker.ts",
      JSON.stringify({ dataDir }),
    ], {
      uid,
      gid,
      cwd: folder.path,
      // Root's cache is not readable for this user.
      env: { HOME: folder.path, DENO_DIR: join(folder.path, "cache") },
      permissions: [
        "--no-lock",
        "--allow-net=127.0.0.1",
        "--allow-read",
        `--allow-write=${folder.path}`,
        "--allow-env=PG*,PATH,HARK_POSTGRES",
        "--allow-sys=uid",
        ...pgCtlPermission(folder.path),
      ],
    });
    const { url } = JSON.parse((await child.line(/^started (.*)$/, { deadline: 60_000 }))[1]!);
    assert.deepEqual(await once(url, "select 1 as one"), [{ one: 1 }]);
    assert.equal((await Deno.stat(dataDir)).uid, uid);
    child.kill("SIGTERM");
    assert.equal((await child.ended()).code, 0, child.stderr);
  }
});

/** The same programs that the tests may run, and those of the user's own copy. */
function pgCtlPermission(folder: string): string[] {
  const config = JSON.parse(Deno.readTextFileSync(new URL("../../deno.json", import.meta.url)));
  const allowed: string[] = config.permissions.test.run.filter((path: string) =>
    path.startsWith("/")
  );
  const copy = join(folder, ".hark", "postgres-18.4.0-beta.17", "bin", "pg_ctl");
  return [`--allow-run=${[...allowed, copy].join(",")}`];
}
