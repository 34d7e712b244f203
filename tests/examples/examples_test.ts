import assert from "node:assert/strict";
import { spawnDeno, test } from "../harness/mod.ts";
import { answer } from "../../examples/edge.ts";

/** Runs an example as the README says and gives the lines it printed. */
async function run(name: string, permissions: string, url: string): Promise<string[]> {
  await using child = spawnDeno([`examples/${name}.ts`], {
    permissions: [`-P=${permissions}`],
    env: { DATABASE_URL: url },
  });
  const { code, stdout, stderr } = await child.ended({ deadline: 60_000 });
  assert.equal(code, 0, stderr);
  return stdout.trim().split("\n");
}

test(
  "the example live.ts replays, then reads live, then ends",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("live", "example", url), ["replayed 1", "live 2", "live 3"]);
  },
);

test(
  "the example transaction.ts publishes only what committed",
  { schema: false },
  async ({ url }) => {
    assert.deepEqual(await run("transaction", "example", url), [
      'order-1 { id: 1 } { by: "example" }',
      "1 handled",
    ]);
  },
);

test("the example retry.ts tries again in place", { schema: false }, async ({ url }) => {
  assert.deepEqual(await run("retry", "example", url), [
    "invoice 1, attempt 1",
    "failed: the printer is out of paper",
    "failed: the printer is out of paper",
    "invoice 2, attempt 3",
    "invoice 3, attempt 1",
    "3 handled",
  ]);
});

test("the example stream.ts reads while it publishes", { schema: false }, async ({ url }) => {
  assert.deepEqual(await run("stream", "example", url), ["20", "21", "22", "23"]);
});

test("the example pglite.ts runs without a server", { schema: false }, async ({ url }) => {
  assert.deepEqual(await run("pglite", "pglite", url), ['1 { text: "hello" }', "1 handled"]);
});

test(
  "the example edge.ts installs, publishes and drains by requests",
  { schema: false },
  async ({ url }) => {
    const post = async (path: string, body?: string) => {
      const request = new Request(`http://localhost${path}`, {
        method: "POST",
        body: body ?? null,
      });
      return await (await answer(request, url)).json();
    };
    assert.equal((await post("/orders", '{"id":41}')).code, "NO_SCHEMA");
    assert.equal((await post("/install")).from, 0);
    assert.equal((await post("/orders", '{"id":42}')).id, 1);
    assert.deepEqual(await post("/drain"), { handled: 1, billed: [{ id: 42 }] });
    assert.deepEqual(await post("/drain"), { handled: 0, billed: [] });
  },
);
