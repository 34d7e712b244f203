import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { fewAtATime, hark, jsonOutput, output, ran, refused } from "./hark.ts";

const log = `select id::int as id, channel, payload::text as payload, key, headers
  from hark.log order by id`;

test("notify publishes JSON with a key and headers, and prints the id", async ({ url, sql }) => {
  const args = ["notify", "orders", '{"n":12345678901234567890}', "--key", "order-42"];
  assert.equal(
    await output([...args, "--header", "by=me", "--header", "why=a=b"], { url }),
    "1\n",
  );
  assert.deepEqual(await jsonOutput(["notify", "Ärger & Co."], { url }), {
    id: 2,
    channel: "Ärger & Co.",
  });
  assert.equal(await output(["notify", "notes", "--text", "it's done"], { url }), "3\n");
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
  assert.deepEqual(ids.trim().split("\n").map(Number), lines.map((_, i) => i + 1));
  const [row] = await sql(
    `select count(*)::int as n, bool_and((payload->>'i')::int = id - 1 and key = 'k') as right
      from hark.log`,
  );
  assert.deepEqual(row, { n: 2500, right: true });
});

test("notify publishes a line while the pipe stays open", async ({ url, sql, use }) => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const child = use(hark(["notify", "orders", "--stdin"], { url, stdin: readable }));
  const writer = writable.getWriter();
  await writer.write(new TextEncoder().encode('{"first":true}\n{"unfin'));
  await child.line(/^1$/);
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
  await fewAtATime<[string[], string, RegExp]>([
    [plain, "1\n2\n{oops\n4\n", /line 3: "\{oops" is not JSON/],
    [plain, '1\n"\\u0000"\n', /line 2: .*cannot store/],
    [envelope, '{"payload":1}\n3\n', /line 2: 3 is not an object/],
    [envelope, '{"payload":1}\n{"channel":"a","payloda":1}\n', /line 2: .*"payloda"/],
    [envelope, '{"payload":1}\n{"channel":""}\n', /line 2: channel "" has no characters/],
    [envelope, '{"headers":[]}\n', /line 1: headers .* not an object/],
    [["notify", "--stdin", "--envelope"], '{"payload":1}\n', /line 1: there is no channel/],
  ], async ([args, stdin, sentence]) => await refused(args, 2, sentence, { url, stdin }));
  assert.deepEqual(await sql(log), []);
  const { code, stderr, stdout } = await ran(plain, {
    url,
    stdin: `${"1\n".repeat(1000)}2\n{oops\n`,
  });
  assert.equal(code, 2);
  assert.match(stderr, /line 1002: .*1000 were published before/);
  assert.equal(stdout.trim().split("\n").length, 1000);
  assert.equal((await sql(log)).length, 1000);
});

test("notify refuses what cannot be published, with what to do", async ({ url, sql }) => {
  await fewAtATime<[string[], RegExp]>([
    [["notify"], /there is no channel/],
    [["notify", ""], /channel "" has no characters/],
    [["notify", "x".repeat(201)], /has 201 characters/],
    [["notify", "orders", "hello"], /"hello" is not JSON[^]*--text/],
    [["notify", "orders", "{id:42}"], /not JSON/],
    [["notify", "orders", "1", "2"], /2/],
    [["notify", "orders", "--key", "k".repeat(1001)], /longer than 1,000/],
    [["notify", "orders", "--key"], /requires `KEY`/],
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
