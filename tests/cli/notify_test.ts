import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { parseDuration } from "../../src/duration.ts";
import { hark, jsonOutput, oneByOne, output, ran, refused } from "./_support/hark.ts";

const log = `select id::int as id, channel, payload::text as payload, key, headers
  from hark.log order by id`;

test("notify publishes JSON with a key and headers, and prints the channel and the id", async ({ url, sql }) => {
  const args = ["notify", "orders", '{"n":12345678901234567890}', "--key", "order-42"];
  assert.equal(
    await output([...args, "--header", "by=me", "--header", "why=a=b"], { url }),
    "orders #1\n",
  );
  assert.deepEqual(await jsonOutput(["notify", "Ärger & Co."], { url }), {
    id: 2,
    channel: "Ärger & Co.",
  });
  assert.equal(await output(["notify", "notes", "--text", "it's done"], { url }), "notes #3\n");
  assert.deepEqual(await sql(log), [
    {
      id: 1,
      channel: "orders",
      payload: '{"n": 12345678901234567890}',
      key: "order-42",
      headers: { by: "me", why: "a=b" },
    },
    { id: 2, channel: "Ärger & Co.", payload: "{}", key: null, headers: null },
    { id: 3, channel: "notes", payload: '"it\'s done"', key: null, headers: null },
  ]);
});

test("notify publishes lines of standard input, thousands of them", async ({ url, sql }) => {
  const lines = Array.from({ length: 2500 }, (_, i) => JSON.stringify({ i }));
  const ids = await output(["notify", "orders", "-", "--key", "k"], {
    url,
    stdin: lines.join("\n"),
  });
  assert.deepEqual(ids.trim().split("\n"), lines.map((_, i) => `orders #${i + 1}`));
  const [row] = await sql(
    `select count(*)::int as n, bool_and((payload->>'i')::int = id - 1 and key = 'k') as right
      from hark.log`,
  );
  assert.deepEqual(row, { n: 2500, right: true });
});

test("notify publishes every line, also after the reader of its output has ended", async ({ url, sql }) => {
  const stdin = "1\n".repeat(3000);
  const { code, stderr } = await ran(["notify", "orders", "-"], { url, stdin, closed: true });
  assert.deepEqual([code, stderr], [0, ""]);
  assert.deepEqual(await sql("select count(*)::int as n from hark.log"), [{ n: 3000 }]);
});

test("notify publishes a line while the pipe stays open", async ({ url, sql, use }) => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const child = use(hark(["notify", "orders", "--stdin"], { url, stdin: readable }));
  const writer = writable.getWriter();
  await writer.write(new TextEncoder().encode('{"first":true}\n{"unfin'));
  await child.line(/^orders #1$/);
  assert.equal((await sql(log)).length, 1);
  await writer.write(new TextEncoder().encode('ished":true}'));
  await writer.close();
  assert.equal((await child.ended()).code, 0);
  assert.equal((await sql(log))[1].payload, '{"unfinished": true}');
});

test("what tail --json wrote, notify --envelope publishes again", async ({ url, sql }) => {
  await sql(`select hark.notify('a', '{"x":1}', 'k', '{"h":true}'), hark.notify('b', '[1.50]')`);
  const saved = await output(["tail", "--from", "beginning", "--limit", "2", "--json"], { url });
  await output(["notify", "--stdin", "--envelope"], { url, stdin: saved });
  const rows = (await sql(log)).map(({ channel, payload, key, headers }) => ({
    channel,
    payload,
    key,
    headers: headers ?? {},
  }));
  assert.deepEqual(rows.slice(2), rows.slice(0, 2));
});

test("a wrong line is named, and nothing of its batch is published", async ({ url, sql }) => {
  const envelope = ["notify", "orders", "--stdin", "--envelope"];
  const plain = ["notify", "orders", "--stdin"];
  await oneByOne<[string[], string, RegExp]>([
    [plain, "1\n2\n{oops\n4\n", /line 3: "\{oops" is not JSON/],
    [plain, '1\n"\\u0000"\n', /line 2: .*cannot store/],
    [envelope, '{"payload":1}\n3\n', /line 2: 3 is not an object/],
    [envelope, '{"payload":1}\n{"channel":"a","payloda":1}\n', /line 2: .*"payloda"/],
    [envelope, '{"payload":1}\n{"channel":""}\n', /line 2: channel "" has no characters/],
    [envelope, '{"headers":[]}\n', /line 1: headers .* not an object/],
    [["notify", "--stdin", "--envelope"], '{"payload":1}\n', /line 1: the line has no channel/],
  ], async ([args, stdin, sentence]) => await refused(args, 2, sentence, { url, stdin }));
  assert.deepEqual(await sql(log), []);
  const { code, stderr, stdout } = await ran(plain, {
    url,
    stdin: `${"1\n".repeat(1000)}2\n{oops\n`,
  });
  assert.equal(code, 2);
  assert.match(stderr, /line 1002: .*1,000 were published before/);
  assert.equal(stdout.trim().split("\n").length, 1000);
  assert.equal((await sql(log)).length, 1000);
});

test("notify refuses what cannot be published, with what to do", async ({ url, sql }) => {
  await oneByOne<[string[], RegExp]>([
    [["notify"], /there is no channel/],
    [["notify", ""], /channel "" has no characters/],
    [["notify", "x".repeat(201)], /has 201 characters/],
    [["notify", "orders", "hello"], /"hello" is not JSON[^]*--text/],
    [["notify", "orders", "{id:42}"], /not JSON/],
    [["notify", "orders", "1", "2"], /2/],
    [["notify", "orders", "--key", "k".repeat(1001)], /longer than 1,000/],
    [["notify", "orders", "--key"], /--key is given without its value, KEY\./],
    [["notify", "orders", "--header", "novalue"], /NAME=VALUE/],
    [["notify", "orders", "--header", "a=1", "--header", "a=2"], /once/],
    [["notify", "orders", "1", "--stdin"], /--stdin/],
    [["notify", "orders", "--envelope"], /Add --stdin/],
    [["notify", "--stdin", "--envelope", "--text"], /contradict/],
    [["notify", "--stdin", "--envelope", "--key", "k"], /each line/],
    [["notify", "orders", "--text"], /no text/],
    [["notify", "orders", '"\\u0000"'], /cannot store/],
  ], async ([args, sentence]) => await refused(args, 2, sentence, { url }));
  assert.deepEqual(await sql(log), []);
});

const delayed = `select number::int as number, channel, payload, key, headers,
  extract(epoch from deliver_at - created_at)::float8 as seconds, deliver_at
  from hark.delayed order by number`;

test("notify --delay and --at deliver later, and say that the number is no id", async ({ url, sql }) => {
  const [row] = await sql("select date_trunc('second', now() + interval '1 day') as at");
  const at = row.at.toISOString().replace(".000Z", "Z");
  assert.equal(
    await output(["notify", "mail", '{"to":7}', "--delay", "5m", "--key", "k"], { url }),
    "mail delayed 1\n",
  );
  assert.deepEqual(
    await jsonOutput(["notify", "mail", "2", "--at", at, "--header", "by=me"], { url }),
    { delayed: 2, channel: "mail" },
  );
  assert.equal(
    await output(["notify", "mail", "-", "--delay", "1.5h"], { url, stdin: "3\n4\n" }),
    "mail delayed 3\nmail delayed 4\n",
  );
  const rows = await sql(delayed);
  assert.deepEqual(rows.map((row) => [row.number, row.payload, row.key, row.headers]), [
    [1, { to: 7 }, "k", null],
    [2, 2, null, { by: "me" }],
    [3, 3, null, null],
    [4, 4, null, null],
  ]);
  assert.deepEqual(rows.map((row) => Math.round(row.seconds)).filter((_, i) => i !== 1), [
    300,
    5400,
    5400,
  ]);
  assert.deepEqual(rows[1].deliver_at, row.at);
  assert.deepEqual(await sql(log), []);
});

test("notify --dedupe publishes once, and says where it did not", async ({ url, sql }) => {
  const args = ["notify", "jobs", "--dedupe", "it's nightly 🐘", "--within", "12h"];
  assert.equal(await output(args, { url }), "jobs #1\n");
  assert.equal(await output(args, { url }), "jobs #1 duplicate\n");
  assert.deepEqual(await jsonOutput(args, { url }), { id: 1, channel: "jobs", duplicate: true });
  const later = ["notify", "jobs", "--dedupe", "k", "--delay", "1d"];
  const [, number] = /^jobs delayed (\d+)\n$/.exec(await output(later, { url })) ?? [];
  assert.deepEqual(await jsonOutput(later, { url }), {
    delayed: Number(number),
    channel: "jobs",
    duplicate: true,
  });
  assert.equal((await sql(log)).length, 1);
  assert.equal((await sql(delayed)).length, 1);
  const [{ hours }] = await sql(
    `select round(extract(epoch from expires_at - clock_timestamp()) / 3600)::int as hours
      from hark.dedupe where dedupe_key like 'it%'`,
  );
  assert.equal(hours, 12);
});

test("notify refuses a time or a dedupe key that cannot be, with what to do", async ({ url, sql }) => {
  const notify = ["notify", "orders"];
  await oneByOne<[string[], RegExp]>([
    [["--delay", "5"], /--delay is "5"\. Give 250ms, 10s, 5m, 2h or 1d/],
    [["--delay", "soon"], /--delay is "soon"/],
    [["--delay", "4000d"], /delay is 345600000000\. Give milliseconds/],
    [["--delay=-5m"], /--delay is "-5m"/],
    [["--at", "tomorrow"], /--at is "tomorrow"\. Give a time such as/],
    [["--at", "2026-12-01T10:00:00"], /--at is/],
    [["--at", "2026-13-01T10:00:00Z"], /--at is/],
    [["--at", "2100-01-01T00:00:00Z"], /deliverAt is "2100-.*within 10 years/],
    [["--delay", "5m", "--at", "2026-12-01T10:00:00Z"], /contradict/],
    [["--dedupe", ""], /dedupe key is ""\. Give text of 1 to 200/],
    [["--dedupe", "x".repeat(201)], /1 to 200 characters/],
    [["--within", "1h"], /Add --dedupe/],
    [["--dedupe", "k", "--within", "0s"], /within is 0\. Give milliseconds/],
    [["--dedupe", "k", "--within", "1 h"], /--within is "1 h"/],
    [["-", "--dedupe", "k"], /each line would be a duplicate/],
  ], async ([args, sentence]) => await refused([...notify, ...args], 2, sentence, { url }));
  assert.deepEqual(await sql(log), []);
  assert.deepEqual(await sql(delayed), []);
});

Deno.test("durations are read with their unit, and nothing else is", () => {
  const good = { "250ms": 250, "10s": 10_000, "5m": 300_000, "1.5h": 5_400_000, "1d": 86_400_000 };
  for (const [text, ms] of Object.entries({ ...good, "0s": 0 })) {
    assert.equal(parseDuration(text), ms, text);
  }
  for (
    const text of ["", "5", "m", "-5m", "+5m", "5 m", "5M", "5min", "1h 30m", ".5h", "1e3s", "∞d"]
  ) {
    assert.equal(parseDuration(text), undefined, text);
  }
  assert.equal(parseDuration(`${"9".repeat(400)}d`), undefined);
});
