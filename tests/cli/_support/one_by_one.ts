/**
 * A program that runs commands of `hark` one after the other: `[["status"], ["notify", "orders"]]` is its
 * argument. They have the same rights, and one process takes less time to begin than many.
 *
 * @module
 */

import { reset } from "@logtape/logtape";
import { main } from "../../../src/cli/main.ts";

/** These find something: the state of the database and of the server. */
const judges: readonly string[] = ["check", "doctor"];

for (const args of JSON.parse(Deno.args[0]!) as string[][]) {
  const code = await main(args);
  if (code !== 0 && !(code === 1 && judges.includes(args[0]!))) {
    console.error(`hark ${args.join(" ")} ended with ${code}`);
    Deno.exit(1);
  }
  await reset();
}
