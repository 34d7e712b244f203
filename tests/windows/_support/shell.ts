/**
 * PostgreSQL's own programs, run by the server: where it has them, a test needs no right to run them.
 *
 * @module
 */

import type { OwnServer } from "../../harness/mod.ts";

/** Runs a command on the server's machine, as the server's own user. Fails when the command does. */
export async function shell(server: OwnServer, command: string): Promise<void> {
  // Reads its input first: a command that ends without breaks the pipe, at times.
  const text = `cat > /dev/null; ${command}`.replaceAll("'", "''");
  await server.sql(`copy (select 1) to program '${text}'`);
}
