import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { filesOf } from "../../src/cli/listen/module_files.ts";
import { type Child, scratch, test, until } from "../harness/mod.ts";
import { hark, refused, writeModules } from "./_support/hark.ts";

/** A consumer that prints a word of another file. */
const consumer = (from: string) =>
  `import { word } from "${from}";
export const shop = { id: "shop", channels: "orders", acknowledgeInterval: 60_000,
  async handle(n) {
    console.log("begins", word, n.payload, n.attempt);
    await new Promise((done) => setTimeout(done, 300));
    console.log("handled", word, n.payload);
  },
};`;

/** Waits until its consumer has claimed its partitions. */
async function serves(sql: (text: string) => Promise<{ serving: boolean }[]>): Promise<void> {
  await until(async () =>
    (await sql("select bool_and(owner is not null) as serving from hark.partitions"))[0]
      ?.serving === true
  );
}

async function stopped(child: Child): Promise<string> {
  child.kill("SIGTERM");
  const { code, stdout, stderr } = await child.ended();
  assert.equal(code, 0, stderr);
  return stdout;
}

test("listen --watch starts again when an imported file changes, and repeats nothing", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await Deno.mkdir(join(folder.path, "lib"));
  await writeModules(folder.path, {
    "shop.ts": consumer("./lib/word.ts"),
    "lib/word.ts": `export { word } from "./again/word.ts";`,
    "unrelated.txt": "1",
  });
  await Deno.mkdir(join(folder.path, "lib", "again"));
  const word = join(folder.path, "lib", "again", "word.ts");
  await Deno.writeTextFile(word, `export const word = "one";`);
  const child = use(hark(["listen", join(folder.path, "shop.ts"), "--watch"], { url }));
  await child.line(/^shop listens on orders$/);
  await serves(sql);
  await sql("select hark.notify('orders', to_jsonb(n)) from generate_series(1, 2) n");
  await child.line(/^begins one 2 1$/);
  await Deno.writeTextFile(join(folder.path, "unrelated.txt"), "2");
  await Deno.writeTextFile(word, `export const word = "two";`);
  await child.line(/word\.ts changed: starting again$/);
  // The handler that ran has ended, and the lease is free at once: no wait of 15 s.
  await sql("select hark.notify('orders', '3')");
  await child.line(/^handled two 3$/, { deadline: 8000 });
  const stdout = await stopped(child);
  assert.deepEqual(stdout.match(/^begins .+$/gm), [
    "begins one 1 1",
    "begins one 2 1",
    "begins two 3 1",
  ]);
  assert.equal(stdout.match(/^handled /gm)?.length, 3);
});

test("listen --watch waits for a change if a module is broken, and sees a new one", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "shop.ts": "export const shop = ;" });
  const child = use(hark(["listen", folder.path, "--watch"], { url }));
  await child.line(/^hark: the consumers did not start: .*shop\.ts cannot be imported/);
  await child.line(/^waiting for a change of a module$/);
  await writeModules(folder.path, { "word.js": `export const word = "one";` });
  await writeModules(folder.path, { "shop.ts": consumer("./word.js") });
  await child.line(/^shop listens on orders$/);
  await sql("select hark.notify('orders', '1')");
  await child.line(/^handled one 1$/);
  await writeModules(folder.path, {
    "mail.ts": `export default { id: "mail", channels: "letters", handle() {} };`,
  });
  await child.line(/mail\.ts changed: starting again$/);
  await child.line(/^mail listens on letters$/);
  assert.equal((await stopped(child)).match(/^begins /gm)?.length, 1);
});

Deno.test("listen --watch looks at what modules import, by path and by alias, and at no package", async () => {
  await using folder = await scratch();
  await Deno.mkdir(join(folder.path, "lib"));
  await writeModules(folder.path, {
    "deno.json": `{ "imports": { "@/": "./lib/", "words": "./lib/words.ts", "pg": "npm:pg@8" } }`,
    "shop.ts": `import "@/a.ts";\nexport * from 'words';
      import pg from "pg"; import { x } from "jsr:@x/x"; import { join, relative } from "node:path";
      const later = () => import("./later.ts"); import data from "./data.json" with { type: "json" };`,
    "lib/a.ts": `import "../shop.ts"; import "./missing.ts";`,
    "lib/words.ts": "",
    "later.ts": "",
    "data.json": `{ "from": "./not.ts" }`,
    "other.ts": "",
  });
  const files = await filesOf([join(folder.path, "shop.ts")]);
  const found = [...files].map(([path, text]) => [relative(folder.path, path), text !== null]);
  assert.deepEqual(found.toSorted(), [
    ["data.json", true],
    ["later.ts", true],
    ["lib/a.ts", true],
    ["lib/missing.ts", false],
    ["lib/words.ts", true],
    ["shop.ts", true],
  ]);
});

test("listen --watch runs a module that names addresses which are no files here", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  const odd = ["//x.example/y.ts", "file://x.example/y.ts", "./a%2fb.ts", "./100%.ts"];
  const lines = odd.map((name) => `const comment = 'import "${name}"';`);
  await writeModules(folder.path, {
    "word.ts": `export const word = "one";`,
    "shop.ts": consumer("./word.ts") +
      lines.map((line, i) => line.replace("comment", `c${i}`)).join(""),
  });
  const child = use(hark(["listen", folder.path, "--watch"], { url }));
  await child.line(/^shop listens on orders$/);
  await serves(sql);
  await Deno.writeTextFile(join(folder.path, "word.ts"), `export const word = "two";`);
  await child.line(/word\.ts changed: starting again$/);
  await sql("select hark.notify('orders', '1')");
  await child.line(/^handled two 1$/);
  await stopped(child);
});

test("listen refuses the address of a file on another machine, and says why", async ({ url }) => {
  await refused(
    ["listen", "file://x.example/y.ts"],
    2,
    /file:\/\/x\.example\/y\.ts is no file here/,
    {
      url,
      here: true,
    },
  );
});

test("listen --watch refuses what does not go with it", async ({ url }) => {
  for (const other of ["--drain", "--list-consumers"]) {
    const both = new RegExp(`${other} and --watch contradict each other`);
    await refused(["listen", "--watch", other], 2, both, { url, here: true });
  }
  const remote = ["listen", "--watch", "jsr:@nobody/nothing"];
  await refused(remote, 2, /none of the modules is a file/, { url });
});
