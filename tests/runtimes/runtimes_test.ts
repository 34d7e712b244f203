/** The core's promises on Node.js and Bun, from the package as a user has it, on a real server. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { PROJECT, scratch, spawn, test } from "../harness/mod.ts";
import { installed, programOf, runtimes } from "./install.ts";
import { writePackage } from "./package.ts";

for (const runtime of runtimes) {
  const version = await installed(runtime);
  if (version === undefined) {
    console.log(`${runtime} is not installed, and its test is left out: deno task runtimes`);
  }
  test(
    `on ${runtime} the core keeps its promises, also after a crash`,
    { schema: false, ignore: version === undefined, timeout: 120_000 },
    async ({ url, appName, sql }) => {
      await using folder = await scratch();
      await writePackage(folder.path);
      const program = join(folder.path, "promises.mjs");
      await Deno.copyFile(join(PROJECT, "tests/runtimes/promises.mjs"), program);
      const options = { cwd: folder.path, env: { DATABASE_URL: url } };
      await using crashing = spawn(programOf(runtime), [program, "crash"], options);
      const crashed = await crashing.ended({ deadline: 40_000 });
      assert.deepEqual([crashed.signal, crashed.stdout], [
        "SIGKILL",
        "handled 1\nhandled 2\nhandled 3\n",
      ], crashed.stderr);
      await using child = spawn(programOf(runtime), [program], options);
      const ended = await child.ended({ deadline: 80_000 });
      assert.equal(ended.code, 0, `${ended.stdout}${ended.stderr}`);
      assert.equal(ended.stdout.match(/^ok /gm)?.length, 7, ended.stdout);
      console.log(`${runtime} ${version}: ${ended.stdout.match(/^ok /gm)?.length} promises kept`);
      const open = await sql("select from pg_stat_activity where application_name = $1", [appName]);
      assert.deepEqual(open, []);
    },
  );
}
