/** What webhook and print refuse, which addresses are public, and what print writes. */

import assert from "node:assert/strict";
import { HarkError, Notification } from "../../mod.ts";
import { print, type PrintOptions, webhook, type WebhookOptions } from "../../src/handlers/mod.ts";
import { isPublic } from "../../src/handlers/address.ts";
import { secretBytes } from "../../src/handlers/signature.ts";

const secret = `whsec_${btoa("a secret of 24 bytes or more")}`;
const url = "https://partner.example/hooks";

function refused(options: unknown, message: RegExp): void {
  assert.throws(() => webhook(options as WebhookOptions), (error) => {
    assert(error instanceof HarkError, String(error));
    assert.equal(error.code, "BAD_OPTION");
    assert.match(error.message, message);
    assert(error.remedy);
    return true;
  }, Deno.inspect(options));
}

Deno.test("webhook refuses options that cannot be, by name", () => {
  webhook({ url, secret });
  webhook({ url: new URL(url), secrets: [secret, secret], timeout: "5s" });
  webhook({ url: () => url, secret });
  refused({ secret }, /^url is undefined/);
  for (const wrong of ["", "partner", 5, null, {}]) refused({ url: wrong, secret }, /^url is /);
  refused({ url: "ftp://partner.example", secret }, /^url is "ftp:"/);
  refused({ url }, /neither secret nor secrets/);
  refused({ url, secret, secrets: [secret] }, /both secret and secrets/);
  for (const secrets of [[], Array(6).fill(secret), "whsec_", null]) {
    refused({ url, secrets }, /^secrets is no list/);
  }
  refused({ url, secret, timeout: 0 }, /^timeout is 0/);
  refused({ url, secret, body: "payload" }, /^body is /);
  refused({ url, secret, ca: 5 }, /^ca is 5/);
  refused({ url, secret, allowPrivateAddresses: "yes" }, /^allowPrivateAddresses is "yes"/);
  refused({ url, secret, retries: 5 }, /webhook has no option "retries"/);
  for (const name of ["webhook-id", "Webhook-Signature", "Host", "content-type", "a b"]) {
    refused({ url, secret, headers: { [name]: "x" } }, new RegExp(`"${name}"`));
  }
  refused({ url, secret, headers: { a: 5 } }, /"a"/);
  for (const value of ["a\r\nb: c", "a\n", "☃", "\0"]) {
    refused({ url, secret, headers: { a: value } }, /"a"/);
  }
  refused({ url, secret, headers: [] }, /^headers is /);
});

Deno.test("a secret with the line break at the end of its file is the same secret", () => {
  for (const end of ["\n", "\r\n", " "]) {
    webhook({ url, secret: `${secret}${end}` });
    assert.deepEqual(secretBytes(`${secret}${end}`, "secret"), secretBytes(secret, "secret"));
  }
});

Deno.test("no message of webhook shows a secret", () => {
  const hidden = "hiddenhiddenhidden";
  const wrong: unknown[] = [
    { url, secret: hidden },
    { url, secret: `whsec_${hidden}` },
    { url, secret: `whsec_%${hidden}` },
    { url, secret: `whsec_${btoa(hidden.repeat(9))}` },
    { url, secrets: [secret, hidden] },
    { url, secrets: { hidden } },
    { url, secret, headers: { authorization: `${hidden}\nx` } },
    { url: `https://me:${hidden}@partner.example`, secret },
  ];
  for (const options of wrong) {
    assert.throws(() => webhook(options as WebhookOptions), (error) => {
      assert(error instanceof HarkError && error.remedy, String(error));
      assert.doesNotMatch(
        `${error.message} ${error.remedy}`,
        new RegExp(`${hidden}|${btoa(hidden)}`),
      );
      return true;
    });
  }
});

Deno.test("an address that is not public is refused in each way to write it", () => {
  const hosts = ["127.0.0.1", "2130706433", "0x7f.1", "0", "10.1.2.3", "169.254.169.254", "[::1]"];
  hosts.push("[::ffff:10.0.0.1]", "[fd00::1]", "[fe80::1]", "192.168.0.1", "172.16.5.5");
  for (const host of hosts) {
    refused({ url: `http://${host}/x`, secret }, /is no public|which is no public address/);
    webhook({ url: `http://${host}/x`, secret, allowPrivateAddresses: true });
  }
});

Deno.test("which addresses are public", () => {
  const inside = "0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 " +
    "127.255.255.255 169.254.0.1 169.254.169.254 172.16.0.0 172.31.255.255 192.0.0.8 192.0.2.1 " +
    "192.168.0.0 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 " +
    "239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:a00:1 ::ffff:192.168.1.1 " +
    "::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:a00:1::1 fc00::1 " +
    "fdff:ffff::1 fe80::1 fe80::1%eth0 febf::1 fec0::1 ff02::1 3fff::1 4000::1";
  for (const address of [...inside.split(" "), "", "localhost", "1.2.3", "1.2.3.256", "::g"]) {
    assert.equal(isPublic(address), false, address);
  }
  const outside =
    "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 " +
    "128.0.0.1 169.253.255.255 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 " +
    "198.20.0.0 223.255.255.255 2606:4700::1111 2a00::1 2001:4860:4860::8888 ::ffff:8.8.8.8 " +
    "64:ff9b::8.8.8.8";
  for (const address of outside.split(" ")) assert.equal(isPublic(address), true, address);
});

/** What print writes of a notification. */
function printed(row: Record<string, unknown>, options: PrintOptions = {}, attempt = 1): string {
  const lines: string[] = [];
  const base = { id: 7, channel: "orders", key: null, payload: '{"id":42}', headers: null };
  const time = { createdAt: Date.UTC(2026, 0, 2, 3, 4, 5), isReplay: false };
  const notification = new Notification({ ...base, ...time, ...row }, attempt);
  print({ ...options, write: (line) => lines.push(line) })(notification, undefined as never);
  return lines.join("\n");
}

Deno.test("print writes a line that can be read, without headers, which may hold secrets", () => {
  assert.equal(printed({}), 'live   2026-01-02T03:04:05.000Z orders #7 {"id":42}');
  const all = { key: "ada", isReplay: true, headers: '{"token":"hidden","trace":"abc"}' };
  const line = 'replay 2026-01-02T03:04:05.000Z orders #7 {"id":42} key=ada';
  assert.equal(printed(all, {}, 3), `${line} attempt=3`);
  assert.equal(printed(all, { headers: ["trace", "none"] }), `${line} trace="abc"`);
  assert.equal(printed(all, { payload: false }), line.replace(' {"id":42}', ""));
  assert.match(
    printed({ payload: `"${"x".repeat(50)}"` }, { maxLength: 10 }),
    / "x{9}\.\.\. \(42 /,
  );
});

Deno.test("print writes nothing that a terminal obeys", () => {
  const line = printed({
    channel: "a\x1b[2J\n",
    key: "\u009b2J\u202e",
    payload: '"\u009b31m"',
    headers: '{"h\\n":"\\u009b"}',
  }, { headers: ["h\n"] });
  // deno-lint-ignore no-control-regex -- control characters are what it is about
  assert.doesNotMatch(line, /[\x00-\x1f\x7f-\x9f\u202e]/);
});

Deno.test("print refuses options that cannot be, by name", () => {
  const wrong: [options: unknown, message: RegExp][] = [
    [{ payload: 1 }, /^payload is 1/],
    [{ headers: "trace" }, /^headers is "trace"/],
    [{ headers: [1] }, /^headers is /],
    [{ maxLength: 0 }, /^maxLength is 0/],
    [{ write: "x" }, /^write is "x"/],
    [{ color: true }, /print has no option "color"/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => print(options as PrintOptions), { code: "BAD_OPTION", message });
  }
});
