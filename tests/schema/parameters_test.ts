/** The parameters of a URL: none is passed over by mistake, least of all one about TLS. */

import assert from "node:assert/strict";
import { Database, HarkError } from "../../mod.ts";
import { translate } from "../../src/database/translate.ts";
import { withoutEffect } from "../../src/database/url.ts";
import { ran, refused } from "../cli/_support/hark.ts";
import { test } from "../harness/mod.ts";

async function refusal(parameters: string): Promise<string> {
  try {
    await new Database(`postgres://me@127.0.0.1:1/d?${parameters}`).close();
  } catch (error) {
    assert(error instanceof HarkError && error.code === "BAD_OPTION", String(error));
    return error.message;
  }
  return "";
}

Deno.test("a misspelt parameter of the URL is named, with what was meant", async () => {
  const cases: [parameters: string, message: RegExp][] = [
    ["sslmod=verify-full", /unknown parameter "sslmod"\. Did you mean sslmode\?/],
    ["sslmode=require&ssl_mode=verify-full", /"ssl_mode"\. Did you mean sslmode\?/],
    ["SSLMODE=verify-full", /"SSLMODE"\. Did you mean sslmode\?/],
    ["sslrootcrt=ca.pem", /Did you mean sslrootcert\?/],
    ["aplication_name=shop", /Did you mean application_name\?/],
    ["tls=true", /unknown parameter "tls"\. Known are: sslmode, /],
    ["sslcrl=x", /unknown parameter "sslcrl"/],
  ];
  for (const [parameters, message] of cases) assert.match(await refusal(parameters), message);
});

Deno.test("a value that a parameter does not have is refused before anything connects", async () => {
  const cases: [parameters: string, message: RegExp][] = [
    ["sslmode=foo", /parameter sslmode of the database URL is "foo"\. Give one of: disable, /],
    ["sslmode=verify_full", /Did you mean verify-full\? Give one of/],
    ["sslmode=", /sslmode of the database URL is ""/],
    ["sslnegotiation=drect", /Did you mean direct\?/],
    ["ssl=yes", /parameter ssl of the database URL is "yes"/],
    ["statement_timeout=10s", /statement_timeout/],
  ];
  for (const [parameters, message] of cases) assert.match(await refusal(parameters), message);
});

Deno.test("a URL that pg understands is taken, and so is that of a hoster", async () => {
  for (
    const parameters of [
      "sslmode=verify-full",
      "sslmode=no-verify&application_name=shop",
      "sslmode=require&channel_binding=require",
      "ssl=true",
      "host=/run/postgresql&port=5433&user=me",
      "options=-c%20search_path%3Dshop&statement_timeout=1000",
      "schema=public&connection_limit=5&pgbouncer=true",
    ]
  ) assert.equal(await refusal(parameters), "", parameters);
  const told = withoutEffect("postgres://h/d?schema=public&connection_limit=5&connect_timeout=1");
  assert.deepEqual(told.map(([name]) => name).sort(), ["connect_timeout", "connection_limit"]);
});

test("a server without TLS is unreachable for who asks for it, and says what to do", {
  schema: false,
}, async (context) => {
  const url = new URL(context.url);
  url.searchParams.set("sslmode", "verify-full");
  await refused(["status"], 3, /does not support SSL connections\. Turn TLS on.*sslmode=disable/, {
    url: url.href,
  });
  url.searchParams.set("sslmode", "disable");
  const { stderr } = await ran(["status"], { url: url.href });
  assert.doesNotMatch(stderr, /SSL/);
});

Deno.test("what TLS fails on is told with its remedy", () => {
  const cases: [message: string, remedy: RegExp][] = [
    ["self-signed certificate in certificate chain", /sslrootcert=FILE/],
    ["invalid peer certificate: UnknownIssuer", /sslrootcert=FILE/],
    ["Hostname/IP does not match certificate's altnames: Host: db", /the host's name/],
    ["certificate has expired", /sslrootcert=FILE/],
  ];
  for (const [message, remedy] of cases) {
    const { code, remedy: given } = translate(new Error(message));
    assert.equal(code, "UNREACHABLE", message);
    assert.match(given!, remedy);
  }
  const entry = 'no pg_hba.conf entry for host "10.0.0.1", user "me", database "d"';
  const refused = (message: string) =>
    translate(Object.assign(new Error(message), { code: "28000", severity: "FATAL" })).remedy!;
  assert.match(refused(`${entry}, no encryption`), /sslmode=verify-full/);
  assert.match(refused(`${entry}, SSL encryption`), /^Allow the login/);
});

test("a misspelt PGSSLMODE is refused, unless the URL says how to use TLS", {
  schema: false,
}, async ({ url }) => {
  const env = { PGSSLMODE: "verify_full" };
  await refused(["status"], 2, /PGSSLMODE is "verify_full"\. Did you mean verify-full\?/, {
    url: "postgres://me@127.0.0.1:1/d",
    env,
  });
  const own = new URL(url);
  own.searchParams.set("sslmode", "disable");
  const { code } = await ran(["status"], { url: own.href, env });
  assert.equal(code, 4, "it connects, and finds no schema");
});
