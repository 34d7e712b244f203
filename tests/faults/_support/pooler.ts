/**
 * A real pgbouncer, in front of the server of the tests.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  giveTo,
  makeFolder,
  reachablePlace,
  serverAccount,
} from "../../../src/embedded/account.ts";
import {
  type Child,
  connect,
  disconnect,
  quietPort,
  scratch,
  spawn,
  until,
} from "../../harness/mod.ts";

/** Where Debian, Homebrew and others put it. Deno asks for the right to run each by its path. */
const places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];

/** The program, if this machine has it. */
export const pgbouncer: string | undefined = places.find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
});

if (pgbouncer === undefined) {
  console.log(`no pgbouncer in ${places.join(", ")}: the tests of poolers are left out`);
}

/** How many connections to the server it opens for a database. */
export const serverConnections = 5;

/** A running pgbouncer. Its clients wait for each other. */
export interface Pooler extends AsyncDisposable {
  /** A database's URL through it. */
  through(url: string): string;
}

/** Starts one for the server of a database. In session mode, each client has a connection of its own. */
export async function startPooler(
  database: string,
  mode: "transaction" | "session" = "transaction",
): Promise<Pooler> {
  const server = new URL(database);
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await scratch());
  const account = await serverAccount(folder.path);
  const place = await reachablePlace(account, join(folder.path, "pooler"), true);
  await makeFolder(account, place);
  if (!place.startsWith(folder.path)) stack.defer(() => Deno.remove(place, { recursive: true }));
  await giveTo(account, place);
  const port = quietPort();
  const secret = server.password === "" ? "" : ` password=${decodeURIComponent(server.password)}`;
  const config = join(place, "pgbouncer.ini");
  await Deno.writeTextFile(
    config,
    `[databases]
* = host=${server.hostname} port=${server.port || 5432} user=${
      server.username || "postgres"
    }${secret}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = ${mode}
default_pool_size = ${serverConnections}
max_client_conn = 500
server_round_robin = 1
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
`,
  );
  await Deno.chmod(config, 0o644);
  const child: Child = stack.use(spawn(pgbouncer!, [config], account));
  const through = (url: string) => {
    const changed = new URL(url);
    changed.hostname = "127.0.0.1";
    changed.port = String(port);
    return changed.href;
  };
  await until(async () => {
    await disconnect(await connect(through(database)));
    return true;
  }, { what: `pgbouncer to answer; it wrote:\n${child.stderr}` });
  const running = stack.move();
  return { through, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

/**
 * Fails if something of one client is left in a session of the server, where it would reach the others: a setting,
 * LISTEN, a lock, a prepared statement. A statement of Hark's may be left, as its name is made from its text.
 */
export async function assertUntouched(url: string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const clients = await Promise.all(Array.from({ length: serverConnections }, async () => {
    const client = await connect(url);
    stack.defer(() => disconnect(client));
    // A transaction holds one of the connections. So the clients look at all of them.
    await client.query("begin");
    return client;
  }));
  const pids = new Set<number>();
  for (const client of clients) {
    const { rows: [row] } = await client.query(
      `select pg_backend_pid() as pid,
        array(select name || ' = ' || setting from pg_settings where source = 'session' and name <> all ($1))
          || array(select 'listen ' || c from pg_listening_channels() c)
          || array(select 'prepared ' || name from pg_prepared_statements
            where name <> 'hark_' || left(encode(sha256(convert_to(statement, 'utf8')), 'hex'), 32))
          || array(select 'locked ' || objid from pg_locks where pid = pg_backend_pid() and locktype = 'advisory')
          as left`,
      [kept],
    );
    pids.add(row.pid);
    assert.deepEqual(row.left, []);
  }
  assert.equal(pids.size, serverConnections);
  for (const client of clients) await client.query("rollback");
}

/** What pgbouncer itself sets for the client that has the connection. */
const kept = [
  "application_name",
  "client_encoding",
  "DateStyle",
  "TimeZone",
  "standard_conforming_strings",
];
