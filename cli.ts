/**
 * The command line. Commands:
 * `hark init | listen | notify | tail | status | watch | cleanup | sql | uninstall | dev`, and
 * others that `--help` lists.
 *
 * ```sh
 * deno run --allow-net --allow-env jsr:@hark/postgres/cli --help
 * ```
 *
 * @module
 */

import { main } from "./src/cli/main.ts";

if (import.meta.main) Deno.exit(await main(Deno.args));
