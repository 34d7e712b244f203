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

/**
 * Why this machine's pg_dump cannot be used, if it cannot: there is none, or it is older than the
 * servers of the tests and would refuse them.
 */
const noDump: string | undefined = await (async () => {
  const output = await new Deno.Command("psql", { args: ["--version"] }).output()
    .then(({ stdout }) => new TextDecoder().decode(stdout), () => "");
  const version = Number(/(\d+)\./.exec(output)?.[1] ?? 0);
  if (version === 0) return "this machine has no pg_dump and psql";
  const npm = Deno.env.get("HARK_POSTGRES") === "npm" ? 18 : version;
  const wanted = Number.parseInt(Deno.env.get("HARK_TEST_PG") || String(npm));
  return version < wanted
    ? `pg_dump ${version} does not dump a server of version ${wanted}`
    : undefined;
})();

/** The name of a test that needs pg_dump, with the reason if it is left out. */
export function needsDump(name: string): { name: string; ignore: boolean } {
  return noDump === undefined
    ? { name, ignore: false }
    : { name: `${name} (left out: ${noDump})`, ignore: true };
}
