import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { PROJECT, scratch, spawn, test } from "../harness/mod.ts";
import { hark, output, refused } from "./_support/hark.ts";

test(
  "hark new writes a consumer, a test that passes, and tasks",
  { timeout: 120_000 },
  async ({ url, sql }) => {
    await using folder = await scratch();
    const shop = join(folder.path, "shop");
    assert.match(
      await output(["new", shop], { here: true }),
      /^wrote .*\nnow: cd .* deno task test\n$/s,
    );
    const { tasks, imports } = JSON.parse(await Deno.readTextFile(join(shop, "deno.json")));
    assert.deepEqual(Object.keys(tasks), ["test", "hark", "init", "listen", "watch"]);
    // In a clone it imports the clone, with its packages: nothing has to be released.
    for (const name of ["", "/testing", "/edge"]) {
      assert.match(imports[`@hark/postgres${name}`], /^file:\/\/\/.*mod\.ts$/, name);
    }
    assert.equal(imports.pg, config.imports.pg);
    assert.match(tasks.listen, /^deno run .* file:\/\/\/\S+\/cli\.ts listen consumers\/$/);

    // Their types are checked with those of the project: that takes longer than all else here.
    const checked = join(PROJECT, "tests", "cli", "_support", "shop");
    for (const name of [join("consumers", "hello"), join("tests", "hello")]) {
      const written = join(shop, name + (name.startsWith("tests") ? "_test.ts" : ".ts"));
      assert.equal(
        await Deno.readTextFile(written),
        await Deno.readTextFile(join(checked, `${name}.ts`)),
      );
    }

    const args = ["test", "--no-check", "--quiet", "--no-lock", "--no-prompt"];
    await using child = spawn(
      Deno.execPath(),
      [
        ...args,
        "--allow-read",
        "--ignore-env",
        `--config=${join(shop, "deno.json")}`,
        join(shop, "tests", "hello_test.ts"),
      ],
    );
    // With an empty cache it fetches PGlite.
    const { code, stdout, stderr } = await child.ended({ deadline: 60_000 });
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /1 passed/);

    await sql("select hark.notify('signups', '{\"name\": \"Ada\"}')");
    await using listening = hark(["listen", join(shop, "consumers"), "--drain"], { url });
    await listening.line(/^Hello Ada$/);
    await listening.ended();
  },
);

Deno.test("hark new overwrites nothing", async () => {
  await using folder = await scratch();
  const tests = join(folder.path, "tests");
  await Deno.mkdir(tests);
  await Deno.writeTextFile(join(tests, "hello_test.ts"), "mine");
  await refused(["new", folder.path], 1, /has tests\/hello_test.ts, and nothing was written/, {
    here: true,
  });
  const found = await Array.fromAsync(Deno.readDir(folder.path), ({ name }) => name);
  assert.deepEqual(found, ["tests"]);
  assert.equal(await Deno.readTextFile(join(tests, "hello_test.ts")), "mine");
});

Deno.test("hark new without a right to its folder says which right it needs", async () => {
  await using folder = await scratch();
  const shop = join(folder.path, "shop");
  await refused(
    ["new", shop],
    2,
    /may not write into \S+shop\. Run: deno run --allow-read --allow-write=\S+shop file:\S+\/cli\.ts new \S+shop$/m,
    { permissions: ["--allow-read"] },
  );
  await refused(
    ["new", shop],
    2,
    /may not read \S+shop\. Run: deno run --allow-read --allow-write=\S+shop file:\S+\/cli\.ts new \S+shop$/m,
    { permissions: ["--allow-read=src"] },
  );
  assert.deepEqual(await Array.fromAsync(Deno.readDir(folder.path)), []);
});
