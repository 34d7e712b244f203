/**
 * A second server that follows the first.
 *
 * @module
 */

import { join } from "node:path";
import { startEmbedded, type StopMode } from "../../../src/embedded/mod.ts";
import { once, type OwnServer, type Row, until } from "../../harness/mod.ts";

/** A standby, to be promoted or to be read. */
export interface Standby extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** Runs one statement on a connection of its own. */
  sql(text: string, values?: unknown[]): Promise<Row[]>;
  /** Stops it, unless told otherwise in the mode "fast". Nothing happens if it is stopped already. */
  stop(mode?: StopMode): Promise<void>;
  /** Starts it again on the same port. */
  start(): Promise<void>;
  /** Makes it a primary. */
  promote(): Promise<void>;
  /** Waits until it has replayed what a server has written. */
  caughtUp(primary: OwnServer): Promise<void>;
}

/**
 * Makes a standby of a server: a copy of its folder, made while it is stopped, that streams from it, by
 * way of another port where one is given.
 *
 * @param settings Of the standby, for example `{ max_standby_streaming_delay: "0" }`.
 */
export async function standbyOf(
  primary: OwnServer,
  port: number = primary.port,
  settings: Readonly<Record<string, string>> = {},
): Promise<Standby> {
  const folder = join(primary.dataDir, "..", "..", `standby-${crypto.randomUUID().slice(0, 8)}`);
  const dataDir = join(folder, "data");
  await Deno.mkdir(folder, { mode: 0o711 });
  await primary.stop();
  // Or another test's server would take the port while the folder is copied.
  const held = Deno.listen({ hostname: "127.0.0.1", port: primary.port });
  try {
    await copy(primary.dataDir, dataDir);
    await Deno.writeTextFile(join(dataDir, "standby.signal"), "");
  } finally {
    held.close();
  }
  await primary.start();
  const { username, password } = new URL(primary.url);
  const server = await startEmbedded({
    dataDir,
    settings: {
      primary_conninfo: `host=127.0.0.1 port=${port} user=${username} password=${password}`,
      hot_standby_feedback: "on",
      fsync: "off",
      ...settings,
    },
  });
  const sql = (text: string, values?: unknown[]) => once(server.url, text, values);
  return {
    url: server.url,
    port: server.port,
    sql,
    stop: (mode = "fast") => server.stop(mode),
    start: () => server.start(),
    async promote() {
      await sql("select pg_promote()");
      await until(async () => !(await sql("select pg_is_in_recovery() as is"))[0].is);
    },
    async caughtUp(from) {
      const [{ lsn }] = await from.sql("select pg_current_wal_flush_lsn() as lsn");
      await until(
        async () => (await sql("select pg_last_wal_replay_lsn() >= $1::pg_lsn as is", [lsn]))[0].is,
        { what: "the standby to catch up" },
      );
    },
    async [Symbol.asyncDispose]() {
      await server.stop("immediate");
      await server[Symbol.asyncDispose]();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

async function copy(from: string, to: string): Promise<void> {
  const { uid, gid } = await Deno.stat(from);
  await Deno.mkdir(to, { mode: 0o700 });
  for await (const entry of Deno.readDir(from)) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory) await copy(source, target);
    else await Deno.copyFile(source, target);
    if (Deno.build.os !== "windows") await Deno.chown(target, uid, gid);
  }
  if (Deno.build.os !== "windows") await Deno.chown(to, uid, gid);
}
