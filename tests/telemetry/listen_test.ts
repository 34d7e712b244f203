/** Where `hark listen --metrics` answers. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { seam } from "../../src/observe/seam.ts";
import { scratch, test } from "../harness/mod.ts";
import { printer, refused, writeModules } from "../cli/_support/hark.ts";

test("a wrong or taken address for metrics is refused", async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "one.ts": printer("billing", "orders") });
  const module = join(folder.path, "one.ts");
  const taken = use(Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => {
    return new Response();
  }));
  const wrong: [string[], RegExp][] = [
    [["--metrics", "http"], /PORT is "http"\. Give a port such as 9464/],
    [["--metrics", "99999"], /"99999"/],
    [["--metrics", `127.0.0.1:${taken.addr.port}`], /another program uses this port/],
    [["--metrics", "0", "--drain"], /--drain and --metrics contradict each other/],
  ];
  for (const [flags, message] of wrong) {
    await refused(["listen", module, ...flags], 2, message, { url, here: true });
    assert.equal(seam.observer, undefined); // nothing goes on being counted
  }
});
