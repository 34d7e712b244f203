import assert from "node:assert/strict";
import { spawnDeno, test } from "../harness/mod.ts";

test("a script that does not close its database ends with its last await", async ({ url, use }) => {
  const child = use(spawnDeno(["tests/consume/_support/unclosed.ts", url], {
    permissions: ["-P=example"],
  }));
  await child.line(/^over$/);
  const over = performance.now();
  const { code, stdout, stderr } = await child.ended();
  const took = performance.now() - over;
  assert.equal(code, 0, stderr);
  assert.equal(stdout, "plain 1\nexact 1\nover\n");
  // On an idle machine 0.2 to 0.4 s; a pool that keeps the process alive does so for 30 s.
  assert(took < 10_000, `it ended ${Math.round(took)} ms after its last await`);
});
