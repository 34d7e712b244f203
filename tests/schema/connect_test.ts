import assert from "node:assert/strict";
import { connect, type ConnectOptions, Database, HarkError, notify, subscribe } from "../../mod.ts";
import { logged, sentence } from "../faults/_support/logs.ts";
import { cutProxy, patient, test } from "../harness/mod.ts";

/** What connect() throws. */
async function thrown(url: unknown, options?: ConnectOptions): Promise<HarkError> {
  try {
    const db = await connect(url as string, options);
    await db.close();
  } catch (error) {
    assert(error instanceof HarkError, String(error));
    assert(error.remedy, `no remedy: ${error.message}`);
    return error;
  }
  assert.fail(`${url} was connected to`);
}

/** A port on which no server listens. */
function closedPort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

Deno.test("connect() without a URL, or with what is none, says what a URL is", async () => {
  for (const url of [undefined, "", "  ", "localhost", "http://a:b@c/d", "mysql://x", 5432, null]) {
    const error = await thrown(url);
    assert.equal(error.code, "BAD_OPTION", String(url));
    assert.match(error.message, /postgres:\/\/user:password@host:port\/database/);
  }
  for (
    const url of ["postgres://[bad/x", "postgres://u:p@h:notaport/d", "postgres://u:p@h:99999/d"]
  ) {
    assert.equal((await thrown(url)).code, "BAD_OPTION", url);
  }
});

Deno.test("connect() to where no server listens fails at once, as unreachable", async () => {
  const begun = performance.now();
  const error = await thrown(`postgres://u:secret@127.0.0.1:${closedPort()}/d`);
  assert.equal(error.code, "UNREACHABLE");
  assert.match(error.message, /ECONNREFUSED/);
  assert(performance.now() - begun < patient(4000));
});

test("connect() warns once of a replica that is no standby, and reads there all the same", async ({ url }) => {
  const since = Date.now();
  await using db = await connect(url, { replica: url });
  await notify(db, "c", 1);
  for await (const { payload } of subscribe(db, "c", { from: "beginning" })) {
    assert.equal(payload, 1);
    break;
  }
  const warnings = logged.items.filter(({ level, timestamp }) =>
    level === "warning" && timestamp >= since
  ).map(sentence);
  assert.deepEqual(warnings.length, 1, warnings.join("\n"));
  assert.match(
    warnings[0]!,
    /^The option replica gives .*, which is no standby: .* Give the address/,
  );
});

test(
  "connect() to a server that does not answer ends at connectTimeout",
  { schema: false },
  async (context) => {
    const line = context.use(cutProxy(Number(new URL(context.url).port || 5432)));
    line.silence();
    const begun = performance.now();
    const error = await thrown(line.through(context.url), { connectTimeout: 300 });
    assert.equal(error.code, "TIMEOUT");
    assert(performance.now() - begun < patient(5000));
  },
);

test(
  "connect() names the database or the role that does not exist",
  { schema: false },
  async (context) => {
    const url = new URL(context.url);
    url.pathname = "/no_such_database";
    const database = await thrown(url.href);
    assert.equal(database.code, "UNREACHABLE");
    assert.match(database.message, /"no_such_database" does not exist/);
    url.pathname = `/${context.database}`;
    url.username = "no_such_role";
    const role = await thrown(url.href);
    assert.equal(role.code, "UNREACHABLE");
    assert.match(role.message, /no_such_role/);
  },
);

Deno.test("no message shows a password, whatever characters it has", async () => {
  const port = closedPort();
  const passwords = [
    "secret",
    "se:cret",
    "se@cret",
    "se/cret",
    "se%40cret",
    "s?cret",
    "s#cret",
    "ü:@/",
  ];
  const places = [
    (p: string) => `postgres://user:${p}@127.0.0.1:${port}/d`,
    (p: string) => `postgresql://user:${p}@127.0.0.1:${port}/d?application_name=a@b`,
    (p: string) => `postgres://:${p}@127.0.0.1:${port}/d`,
    (p: string) => `http://user:${p}@127.0.0.1/d`,
    (p: string) => `postgres://user:${p}@[bad/d`,
    (p: string) => `postgres://127.0.0.1:${port}/d?user=u&password=${p}`,
  ];
  for (const password of passwords) {
    for (const place of places) {
      for (const text of [password, encodeURIComponent(password)]) {
        const error = await thrown(place(text), { connectTimeout: 1000 });
        for (let e: unknown = error; e instanceof Error; e = e.cause) {
          const shown = `${e.message}\n${e.stack}`;
          assert(!shown.includes(text) && !shown.includes("cret"), `${place(text)}: ${e.message}`);
        }
      }
    }
  }
});

Deno.test("what is not a URL of PostgreSQL is never shown: it may hold a password in any form", async () => {
  const port = closedPort();
  for (
    const url of [
      "host=127.0.0.1 password=s3cret",
      "host=127.0.0.1 user=u password='s3 cret'",
      "password = s3cret",
      "postgres:u:s3cret@127.0.0.1/d",
      "u:s3cret@127.0.0.1/d",
      "s3cret",
      "POSTGRES://u:s3cret@127.0.0.1/d",
      "jdbc:postgresql://127.0.0.1/d?user=u&password=s3cret",
      "mysql://u:s3cret@127.0.0.1/d",
      "mysql://127.0.0.1;password=s3cret/d",
      " postgres://u:s3cret@127.0.0.1/d",
      "'postgres://u:s3cret@127.0.0.1/d'",
      "DATABASE_URL=postgres://u:s3cret@127.0.0.1/d",
      "PGPASSWORD=s3cret",
      "psql postgres://u:s3cret@127.0.0.1/d",
      "postgres://u:s3cret",
      `postgres://127.0.0.1:${port}/d;password=s3cret`,
      `postgres://127.0.0.1:${port}/d%20password%3Ds3cret`,
      `postgres://127.0.0.1:${port}/d?sslpassword=s3cret`,
      `postgres://127.0.0.1:${port}/d?pass%77ord=s3cret&user=u`,
      `postgres://127.0.0.1:${port}/d?PASSWORD=s3cret`,
      `postgres://127.0.0.1:${port}/d?options=-c%20x.token%3Ds3cret`,
      `postgres://127.0.0.1:${port}/d?password=x@s3cret`,
      `postgres://127.0.0.1:${port}/d#s3cret`,
      `postgres://u:12/s3cret@127.0.0.1:${port}/d`,
      `postgres://u:12#s3cret@127.0.0.1:${port}/d`,
    ]
  ) {
    for (const at of [() => thrown(url, { connectTimeout: 1000 }), () => constructed(url)]) {
      for (let e: unknown = await at(); e instanceof Error; e = e.cause) {
        assert.doesNotMatch(`${e.message}\n${e.stack}\n${Deno.inspect(e)}`, /3\+?\s?cret/, url);
      }
    }
  }
});

/** What `new Database()` throws, which connects to nothing; undefined if it is a URL. */
async function constructed(url: string): Promise<unknown> {
  try {
    await new Database(url).close();
  } catch (error) {
    assert.equal((error as HarkError).code, "BAD_OPTION");
    return error;
  }
  return undefined;
}

Deno.test("a connection that fails names where it went: user, host, port and database", async () => {
  const port = closedPort();
  const error = await thrown(`postgres://u%20v:s3cret@127.0.0.1:${port}/d?sslmode=disable`);
  assert(error.message.startsWith(`postgres://u%20v:***@127.0.0.1:${port}/d: `), error.message);
});

test("options of connect() are checked by name and bounds", { schema: false }, async (context) => {
  // deno-lint-ignore no-explicit-any -- wrong on purpose
  const wrong: [any, RegExp][] = [
    [{ poolsize: 1 }, /connect has no option "poolsize".*Known options: poolSize/],
    [{ poolSize: 0 }, /poolSize is 0/],
    [{ poolSize: "4" }, /poolSize is "4"/],
    [{ connectTimeout: 0 }, /connectTimeout is 0/],
    [{ queryTimeout: 1.5 }, /queryTimeout is 1.5/],
    [{ readerTimeout: -1 }, /readerTimeout is -1/],
    [{ heartbeat: 9 }, /heartbeat is 9/],
    [{ heartbeatTimeout: NaN }, /heartbeatTimeout/],
    [{ maxReconnectDelay: 1 }, /maxReconnectDelay is 1/],
    [{ listen: 1 }, /listen is 1\. Give true, false, or the URL/],
    [{ listen: "off" }, /^listen: the database URL is not a URL/],
  ];
  for (const [options, message] of wrong) {
    const error = await thrown(context.url, options);
    assert.equal(error.code, "BAD_OPTION");
    assert.match(error.message, message);
  }
});

test("sessions are named as asked; a query that takes too long ends, the next works", {
  schema: false,
}, async (context) => {
  const url = new URL(context.url);
  url.search = "";
  // Those that are to work take milliseconds, and seconds where the server stands still for a moment.
  const queryTimeout = patient(1000);
  const db = context.use(
    await connect(url.href, { applicationName: "shop", queryTimeout, poolSize: 1 }),
  );
  const named = async () => (await db.query("show application_name")).rows[0].application_name;
  assert.equal(await named(), "shop");
  await assert.rejects(db.query("select pg_sleep(300)"), { code: "TIMEOUT" });
  assert.equal(await named(), "shop");
  await context.sql(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and query = 'select pg_sleep(300)'`);
});
