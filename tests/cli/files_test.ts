/** Files that a URL or an option names, wherever they are. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { PROJECT, scratch, spawnDeno, test } from "../harness/mod.ts";
import { ran } from "./_support/hark.ts";

/** The server of the test, with the certificate of an authority. */
function withAuthority(url: string, file: string): string {
  const place = new URL(url);
  place.searchParams.set("sslmode", "verify-full");
  place.searchParams.set("sslrootcert", file);
  return place.href;
}

test("a command reads the certificate that the URL names, and the credentials that an option names", async ({ url }) => {
  // No certificate, but a file: a server without TLS does not look at it.
  const authority = join(PROJECT, "LICENSE");
  const status = await ran(["status"], { url: withAuthority(url, authority), here: false });
  assert.match(status.stderr, /does not support SSL|certificate/);
  const none = join(PROJECT, "none.creds");
  const args = ["relay", "out", "--stream", "S", "--channels", "c", "--credentials", none];
  const relay = await ran(args, { url, here: false });
  assert.match(relay.stderr, /none\.creds cannot be read: No such file/);
});

test("a program that may not read the certificate is told which right it needs", async ({ url, use }) => {
  const folder = use(await scratch());
  const authority = join(folder.path, "ca.pem");
  await Deno.writeTextFile(authority, "");
  const program = join(folder.path, "program.ts");
  await Deno.writeTextFile(
    program,
    `import { connect } from ${JSON.stringify(import.meta.resolve("../../mod.ts"))};
    await connect(Deno.env.get("DATABASE_URL")).catch(({ remedy }) => console.log(remedy));`,
  );
  const child = use(spawnDeno([program], {
    env: { DATABASE_URL: withAuthority(url, authority) },
    permissions: ["--allow-net", "--allow-env"],
  }));
  await child.line(/^Give --allow-read for .*sslrootcert/);
});
