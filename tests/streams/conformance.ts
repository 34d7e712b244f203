/**
 * Serves streams that can be written, for the conformance suite of the Durable Streams protocol. With `--run`, runs
 * the suite against them and lists its groups. The exit code is 1 if a test has failed that applies:
 *
 *     deno task conformance --run
 *
 * docs/guide/streams.md says which of its tests do not apply. Use a server that nothing else uses: the
 * suite compares offsets, which also move when other transactions end.
 *
 * @module
 */

import { connect, migrate } from "../../mod.ts";
import { conformance } from "./_support/suite.ts";
import { serveWritable } from "./_support/writable.ts";

const db = await connect(Deno.env.get("DATABASE_URL"));
await migrate(db);
const { url } = serveWritable(db, { longPoll: 2000 }, 4437);
console.log(`Streams are at ${url}`);
if (Deno.args.includes("--run")) {
  const groups = await conformance(url.replace(/\/$/, ""));
  for (const { name, passed, failed, left } of groups) {
    const what = [
      passed + failed.length > 0 ? `${passed} of ${passed + failed.length} pass` : "",
      left > 0 ? `${left} do not apply` : "",
    ];
    console.log(`${name}: ${what.filter((one) => one !== "").join(", ")}`);
    for (const title of failed) console.log(`  FAILED: ${title}`);
  }
  Deno.exit(groups.some(({ failed }) => failed.length > 0) ? 1 : 0);
}
