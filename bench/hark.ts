/**
 * How the benches run `hark`, in a process of its own with the rights of its task.
 *
 * @module
 */

import { fromFileUrl } from "../tests/harness/files.ts";

const root = new URL("../", import.meta.url);

/** The arguments of `deno` before those of `hark`. */
export const hark: readonly string[] = [
  "run",
  "--no-prompt",
  "--quiet",
  `--config=${fromFileUrl(new URL("deno.json", root))}`,
  "-P=hark",
  fromFileUrl(new URL("cli.ts", root)),
];
