import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { PROJECT, scratch, spawn, test } from "../harness/mod.ts";

/** The words of a shell's line without variables. */
function words(line: string): string[] {
  return (line.match(/'[^']*'|\S+/g) ?? []).map((word) => word.replaceAll("'", ""));
}

test("the install line of a clone gives a hark that runs", async ({ url }) => {
  await using folder = await scratch();
  const page = await Deno.readTextFile(join(PROJECT, "CONTRIBUTING.md"));
  const line = /^deno (install -g -n hark .*)$/m.exec(page)![1]!;
  {
    await using install = spawn("deno", [...words(line), `--root=${folder.path}`], {
      cwd: PROJECT,
    });
    const { code, stderr } = await install.ended({ deadline: 60_000 });
    assert.equal(code, 0, stderr);
  }
  // What the installed script does. Tests may not run the script itself.
  const script = await Deno.readTextFile(join(folder.path, "bin", "hark"));
  const command = words(/^exec deno (.*) "\$@"$/m.exec(script)![1]!);
  const hark = async (...args: string[]) => {
    await using child = spawn("deno", [...command, ...args], {
      cwd: folder.path,
      env: { DATABASE_URL: url },
    });
    const { code, stdout, stderr } = await child.ended({ deadline: 60_000 });
    assert.equal(code, 0, stderr);
    return stdout;
  };
  assert.equal((await hark("--version")).trim(), config.version);
  assert.match(await hark("notify", "orders", '{"id":42}'), /1/);
  const module = join(PROJECT, "examples", "consumers", "orders.ts");
  assert.match(await hark("listen", module, "--drain"), /replay #1 \{ id: 42 \}/);
});
