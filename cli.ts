/**
 * The command line `hark`. `--help` lists its commands.
 *
 * ```sh
 * deno run --allow-net --allow-env jsr:@hark/postgres/cli --help
 * ```
 *
 * @module
 */

import { main } from "./src/cli/main.ts";

if (import.meta.main) Deno.exit(await main(Deno.args));
