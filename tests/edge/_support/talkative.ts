/** A server whose log shows each statement. */

import { join } from "node:path";
import { type OwnServer, ownServer } from "../../harness/mod.ts";

/** Starts one. */
export async function talkative(): Promise<OwnServer> {
  return await ownServer({
    settings: { log_statement: "all", log_connections: "on", log_line_prefix: "%m %a " },
  });
}

/** The statements that programs of this name have sent so far. */
export async function statements(
  { dataDir }: OwnServer,
  name = "hark-test",
): Promise<string[]> {
  const log = await Deno.readTextFile(join(dataDir, "server.log"));
  return log.split("\n").filter((line) =>
    / (\S+) LOG: {2}(statement|execute)/.exec(line)?.[1] === name
  );
}

/** How many connections programs of this name have opened so far. */
export async function connections({ dataDir }: OwnServer, name: string): Promise<number> {
  const log = await Deno.readTextFile(join(dataDir, "server.log"));
  return log.split("\n").filter((line) =>
    line.includes("connection authorized") && line.includes(`application_name=${name}`)
  ).length;
}
