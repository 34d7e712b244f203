import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { compileArgs } from "../compile.ts";
import { PROJECT, scratch, spawn } from "../harness/mod.ts";

/**
 * Compiles `hark` around the Deno that runs this test, as a binary's own runtime is a download. That
 * does not make a program that works, but one with everything embedded that a working one has.
 */
async function compiled(path: string): Promise<{ listing: string; embedded: string }> {
  await using child = spawn(
    "deno",
    [...compileArgs(), "--no-check", `--output=${path}`, "cli.ts"],
    {
      cwd: PROJECT,
      env: { DENORT_BIN: Deno.execPath() },
    },
  );
  const { code, stderr } = await child.ended({ deadline: 90_000 });
  assert.equal(code, 0, stderr);
  const { size: runtime } = await Deno.stat(Deno.execPath());
  using file = await Deno.open(path);
  const { size } = await file.stat();
  await file.seek(runtime, Deno.SeekMode.Start);
  const bytes = new Uint8Array(size - runtime);
  for (let at = 0; at < bytes.length;) at += await file.read(bytes.subarray(at)) ?? Infinity;
  return { listing: stderr, embedded: new TextDecoder("latin1").decode(bytes) };
}

/** What Deno's table of embedded files has. */
type Embedded =
  | { readonly File: { readonly n: string } }
  | { readonly Dir: { readonly n: string; readonly e: readonly Embedded[] } }
  | { readonly Symlink: unknown };

/** The paths of all embedded files. */
function pathsIn(embedded: string): string[] {
  const start = embedded.indexOf('[{"Dir":');
  let end = start;
  let depth = 0;
  do {
    if ("[{".includes(embedded[end]!)) depth++;
    if ("]}".includes(embedded[end]!)) depth--;
    end++;
  } while (depth > 0);
  const below = (entry: Embedded): string[] =>
    "File" in entry
      ? [entry.File.n]
      : "Dir" in entry
      ? entry.Dir.e.flatMap(below).map((path) => `${entry.Dir.n}/${path}`)
      : [];
  return JSON.parse(embedded.slice(start, end)).flatMap(below);
}

Deno.test("the binary holds what threads and consumers import, may read every variable of hark, and no more", async () => {
  await using folder = await scratch();
  const { listing, embedded } = await compiled(join(folder.path, "hark"));
  const files = new Set(pathsIn(embedded));
  const exported = Object.values(config.exports).map((path) => path.replace("./", ""));
  const needed = [...exported, "src/cli/listen/thread.ts", "src/schema/sql.json"];
  assert.deepEqual(needed.filter((file) => !files.has(file)), [], listing);
  for (const name of ["@electric-sql", "graphile-worker", "pg-boss", "@types", "dev.lock"]) {
    assert(!listing.includes(name), `${name} is embedded: ${listing}`);
  }
  const megabytes = Number(/^Files: ([\d.]+)MB$/m.exec(listing)?.[1]);
  assert(megabytes < 14, `${megabytes} MB of files are embedded`);

  const reference = await Deno.readTextFile(join(PROJECT, "docs/reference/cli.md"));
  const variables = new Set([
    ...reference.matchAll(/\bHARK_[A-Z_]+/g).map(([name]) => name),
    ...Object.values(config.permissions.hark.env.allow),
    ...Object.values(config.permissions.listen.env.allow),
  ]);
  const readable = /"allow_env":(\[[^\]]*\])/.exec(embedded)?.[1] ?? "[]";
  const all = new Set(JSON.parse(readable));
  assert.deepEqual([...variables].filter((name) => !all.has(name)), [], readable);
  assert.match(embedded, /"ignore_env":\[\]/); // what is not readable is undefined, and not asked for

  const permissions = /"permissions":\{[^}]*\}/.exec(embedded)?.[0] ?? "";
  assert.match(permissions, /"allow_write":\["\.hark",/);
  assert.match(permissions, /"\/usr\/lib\/postgresql\/15\/bin\/pg_ctl"/);
  assert(!permissions.includes(PROJECT), `the folder it was built in is allowed: ${permissions}`);
});
