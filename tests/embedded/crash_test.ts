import assert from "node:assert/strict";
import { join } from "node:path";
import { findEmbedded, startEmbedded } from "../../src/embedded/mod.ts";
import { type Child, once, scratch, spawnDeno, until } from "../harness/mod.ts";

const WORKER = "tests/embedded/_support/worker.ts";

interface Started {
  readonly url: string;
  readonly pid: number;
  readonly dataDir: string;
}

async function started(child: Child): Promise<Started> {
  return JSON.parse((await child.line(/^started (.*)$/))[1]!);
}

Deno.test("two processes that start at once share a server; the last to leave stops it", async () => {
  await using folder = await scratch();
  const dataDir = join(folder.path, "data");
  const options = JSON.stringify({ dataDir });
  await using one = spawnDeno([WORKER, options]);
  await using two = spawnDeno([WORKER, options]);
  const [{ url, pid }, other] = await Promise.all([started(one), started(two)]);
  assert.deepEqual([other.url, other.pid], [url, pid]);

  one.kill("SIGTERM");
  assert.equal((await one.ended()).code, 0, one.stderr);
  assert.deepEqual(await once(url, "select 1 as one"), [{ one: 1 }]);
  two.kill("SIGTERM");
  assert.equal((await two.ended()).code, 0, two.stderr);
  await assert.rejects(once(url, "select 1"), { code: "ECONNREFUSED" });
});

Deno.test("a server whose process was killed is taken over, and stopped in order", async () => {
  await using folder = await scratch();
  const dataDir = join(folder.path, "data");
  let left: Started;
  {
    await using child = spawnDeno([WORKER, JSON.stringify({ dataDir })]);
    left = await started(child);
    child.kill("SIGKILL");
    await child.ended();
  }
  assert.equal(await findEmbedded(dataDir), left.url, "it outlives the process");
  {
    await using server = await startEmbedded({ dataDir });
    assert.deepEqual([server.url, server.pid], [left.url, left.pid]);
  }
  assert.equal(await findEmbedded(dataDir), undefined);
});

Deno.test("a killed server comes back with all that was committed", async () => {
  await using server = await startEmbedded({ ephemeral: true });
  const { url } = server;
  await once(url, "create table kept (n int)");
  for (let n = 1; n <= 3; n++) {
    await once(url, "insert into kept values ($1)", [n]);
    await server.kill();
    await assert.rejects(once(url, "select 1"), { code: "ECONNREFUSED" });
    await server.start();
    const [row] = await once(url, "select array_agg(n order by n) as ns from kept");
    assert.deepEqual(row.ns, Array.from({ length: n }, (_, i) => i + 1));
  }
});

Deno.test("a server killed behind our back, its postmaster.pid left, starts again", async () => {
  await using folder = await scratch();
  const dataDir = join(folder.path, "data");
  await using server = await startEmbedded({ dataDir });
  const stale = join(server.dataDir, "postmaster.pid");
  const text = await Deno.readTextFile(stale);
  await server.kill();
  await Deno.writeTextFile(stale, text); // as the kill itself leaves it
  assert.equal(await findEmbedded(dataDir), undefined);

  await using again = await startEmbedded({ dataDir });
  assert.deepEqual(await once(again.url, "select 1 as one"), [{ one: 1 }]);
  assert.equal(again.port, server.port);
});

Deno.test("a start that is killed midway does not spoil the next one", async () => {
  await using folder = await scratch();
  const dataDir = join(folder.path, "data");
  for (const ms of [150, 400, 700, 1_000, 1_200]) {
    await using child = spawnDeno([WORKER, JSON.stringify({ dataDir })]);
    // Any moment will do: what is tested is that none is special.
    await new Promise((resolve) => setTimeout(resolve, ms));
    child.kill("SIGKILL");
    await child.ended();
  }
  await using server = await startEmbedded({ dataDir });
  assert.deepEqual(await once(server.url, "select 1 as one"), [{ one: 1 }]);
});

Deno.test("the next ephemeral server removes those of processes that were killed", async () => {
  let left: Started;
  {
    await using child = spawnDeno([WORKER, JSON.stringify({ ephemeral: true })]);
    left = await started(child);
    child.kill("SIGKILL");
    await child.ended();
  }
  await using server = await startEmbedded({ ephemeral: true });
  assert.notEqual(server.dataDir, left.dataDir);
  await until(async () => !(await Deno.stat(left.dataDir).catch(() => null)), {
    what: "the abandoned folder to be removed",
  });
  await assert.rejects(once(left.url, "select 1"), { code: "ECONNREFUSED" });
  assert.deepEqual(await once(server.url, "select 1 as one"), [{ one: 1 }]);
});
