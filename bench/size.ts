/**
 * Size: what a program loads of each public module, as one file, minified and compressed by gzip. Then that of a
 * function that publishes and drains. It needs no server.
 *
 *     deno task bench size [--json]
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };
import { bundleSize } from "../tests/checks/bundled.ts";
import { flags } from "./flags.ts";
import { print, type Row } from "./table.ts";

const given = flags({});
const rows: Row[] = [];
const modules = { ...config.exports, "publish and drain": "bench/size/publish_and_drain.ts" };
for (const [name, path] of Object.entries(modules)) {
  const { minified, gzipped } = await bundleSize(path);
  rows.push({ export: name, "minified, bytes": minified, "gzipped, bytes": gzipped });
}
await print({
  title: "What each export loads",
  notes: ["Made by deno bundle --minify. Packages and modules that are imported late count too."],
  rows,
}, given);
