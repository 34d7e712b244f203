import assert from "node:assert/strict";
import { join } from "node:path";
import { reachablePlace, serverAccount, SHARED_FOLDER } from "../../src/embedded/account.ts";
import { DEFAULT_RELEASE } from "../../src/embedded/npm.ts";
import { startEmbedded } from "../../src/embedded/mod.ts";
import { once, PROJECT, scratch, spawnDeno } from "../harness/mod.ts";

Deno.test("PostgreSQL comes from npm where the machine has none", async () => {
  await using server = await startEmbedded({ ephemeral: true, binaries: "npm" });
  assert.equal(server.version, "18.4");
  const [row] = await once(server.url, "select version() as v, upper('äé') as upper");
  assert.match(row.v, /^PostgreSQL 18\.4/);
  assert.equal(row.upper, "ÄÉ");
});

Deno.test("two processes that fetch it at once both get it, after one was killed midway", async () => {
  await using folder = await scratch();
  const name = `postgres-${DEFAULT_RELEASE}`;
  const account = await serverAccount(folder.path);
  const copy = await reachablePlace(account, join(folder.path, ".hark", name), false);
  const options = JSON.stringify({ ephemeral: true, binaries: "npm" });
  const spawn = () =>
    spawnDeno(["tests/embedded/_support/worker.ts", options], {
      cwd: folder.path,
      permissions: [
        "--no-lock",
        "--allow-net=127.0.0.1",
        "--allow-read",
        `--allow-write=${folder.path},${SHARED_FOLDER}`,
        "--allow-env=PG*,PATH,HARK_POSTGRES",
        "--allow-sys=uid",
        `--allow-run=${join(copy, "bin", "pg_ctl")}`,
      ],
    });
  {
    await using killed = spawn();
    const unfinished = `${copy}.unfinished`;
    while (!(await Deno.stat(unfinished).catch(() => Deno.stat(copy)).catch(() => null))) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    killed.kill("SIGKILL");
  }
  await using one = spawn();
  await using two = spawn();
  for (const child of [one, two]) {
    const { url, version } = JSON.parse(
      (await child.line(/^started (.*)$/, { deadline: 90_000 }))[1]!,
    );
    assert.equal(version, "18.4");
    assert.deepEqual(await once(url, "select 1 as one"), [{ one: 1 }]);
  }
  for (const child of [one, two]) {
    child.kill("SIGTERM");
    assert.equal((await child.ended()).code, 0, child.stderr);
  }
});

Deno.test("importing the embedded server fetches nothing", async () => {
  const text = await Deno.readTextFile(join(PROJECT, "src/embedded/npm.ts"));
  assert.doesNotMatch(text, /import\(\s*["'`]npm:|from "npm:/);
});
