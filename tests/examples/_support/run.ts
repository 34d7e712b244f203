/**
 * Running examples as their first lines say.
 *
 * @module
 */

import assert from "node:assert/strict";
import { spawnDeno } from "../../harness/mod.ts";

/** Runs an example with a named set of permissions, and `more`, and gives the lines it printed. */
export async function run(
  name: string,
  permissions: string,
  url: string,
  { more = [], args = [] }: { more?: readonly string[]; args?: readonly string[] } = {},
): Promise<string[]> {
  await using child = spawnDeno([`examples/${name}.ts`, ...args], {
    permissions: [`-P=${permissions}`, ...more],
    env: { DATABASE_URL: url },
  });
  const { code, stdout, stderr } = await child.ended({ deadline: 60_000 });
  assert.equal(code, 0, stderr);
  return stdout.trim().split("\n");
}
