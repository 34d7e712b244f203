/**
 * The server of a run that is given none. Its databases are in memory if there is room.
 *
 * @module
 */

import { join } from "node:path";
import { type EmbeddedServer, startEmbedded } from "../../src/embedded/mod.ts";
import { connect, disconnect, once } from "./connect.ts";

/**
 * Settings of the throwaway server. Nothing has to survive its end, and no background work takes
 * time or transaction numbers from the tests.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  synchronous_commit: "off",
  checkpoint_timeout: "1h",
  max_wal_size: "8GB",
  max_connections: "300",
  autovacuum: "off",
};

/** Where Linux has a file system in memory. */
const MEMORY = "/dev/shm";

/** Megabytes that have to be free in memory. A run of all tests has taken 120 at a time. */
const ROOM = 2_000;

/** A server that a run has started. */
export interface Throwaway extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly version: string;
  /** The folder of its databases in memory, where to drop one costs little; undefined if they are on the disk. */
  readonly memory: string | undefined;
}

/** Starts the server of a run. */
export async function startThrowaway(): Promise<Throwaway> {
  const version = Deno.env.get("HARK_TEST_PG");
  const server = await startEmbedded({
    ephemeral: true,
    settings: SETTINGS,
    ...(version ? { version } : {}),
  });
  try {
    await trustAll(server);
    const memory = Deno.env.has("HARK_TEST_DISK") ? undefined : await moveToMemory(server);
    return {
      url: server.url,
      port: server.port,
      version: server.version,
      memory,
      [Symbol.asyncDispose]: async () => {
        if (memory !== undefined) {
          await runThere(server.url, `rm -rf ${memory}`).catch((error) => console.error(error));
          // An orderly stop would write to the databases.
          await server.stop("immediate");
        }
        await server[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Lets every role in without its password. To prove a password takes server and client more work than
 * all else of a connection, and tests make thousands. Tests of passwords have servers of their own.
 */
async function trustAll({ dataDir, url }: EmbeddedServer): Promise<void> {
  await Deno.writeTextFile(join(dataDir, "pg_hba.conf"), "host all all 127.0.0.1/32 trust\n");
  const client = await connect(url);
  await client.query("select pg_reload_conf()");
  await disconnect(client);
}

/**
 * Has all databases made in memory from now on, as copies of templates that are there. Gives the folder, or
 * undefined if there is no room. The server itself runs what it takes, as Deno lets no program below `/dev`
 * that may not do everything. A folder is named after its server's process: so it is known when it is over.
 */
async function moveToMemory({ url, pid }: EmbeddedServer): Promise<string | undefined> {
  if (Deno.build.os !== "linux" || pid === undefined) return undefined;
  const folder = `${MEMORY}/hark_${pid}`;
  const [made] = await runThere(
    url,
    `cd ${MEMORY} || exit 0
     for old in hark_[0-9]*; do [ -d $old ] && ! kill -0 \${old#hark_} && rm -rf $old; done
     set -- $(stat -f -c "%T %a %S" .)
     available=$(sed -n "s/^MemAvailable: *\\([0-9]*\\) kB/\\1/p" /proc/meminfo)
     [ "$1" = tmpfs ] && [ $(($2 * $3 / 1000000)) -gt ${ROOM} ] &&
       [ $((available / 1000)) -gt ${ROOM} ] && mkdir -m 700 ${folder} && echo made
     exit 0`,
  );
  if (made === undefined) return undefined;
  await once(url, `create tablespace memory location '${folder}'`);
  for (const template of ["template0", "template1"]) {
    await once(url, `alter database ${template} set tablespace memory`);
  }
  return folder;
}

/** Runs a script of the shell as the server's user, and gives the lines that it writes. */
async function runThere(url: string, script: string): Promise<string[]> {
  const client = await connect(url);
  try {
    await client.query("create temp table lines (line text)");
    const quoted = script.replaceAll("'", "''");
    await client.query(`copy lines from program '(${quoted}) 2>/dev/null'`);
    return (await client.query("select line from lines")).rows.map(({ line }) => line);
  } finally {
    await disconnect(client);
  }
}
