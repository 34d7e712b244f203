import assert from "node:assert/strict";
import { join } from "node:path";
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

Deno.test("the binary holds a thread's module, what consumers import, and no more", async () => {
  await using folder = await scratch();
  const { listing, embedded } = await compiled(join(folder.path, "hark"));
  const files = new Set([...embedded.matchAll(/"File":\{"n":"([^"]+)"/g)].map(([, name]) => name));
  for (const file of ["cli.ts", "mod.ts", "thread.ts", "watched.ts", "sql.json"]) {
    assert(files.has(file), `${file} is not embedded: ${listing}`);
  }
  for (const name of ["@electric-sql", "graphile-worker", "pg-boss", "@types", "dev.lock"]) {
    assert(!listing.includes(name), `${name} is embedded: ${listing}`);
  }
  const megabytes = Number(/^Files: ([\d.]+)MB$/m.exec(listing)?.[1]);
  assert(megabytes < 12, `${megabytes} MB of files are embedded`);

  const permissions = /"permissions":\{[^}]*\}/.exec(embedded)?.[0] ?? "";
  assert.match(permissions, /"allow_write":\["\.hark",/);
  assert.match(permissions, /"\/usr\/lib\/postgresql\/15\/bin\/pg_ctl"/);
  assert(!permissions.includes(PROJECT), `the folder it was built in is allowed: ${permissions}`);
});
