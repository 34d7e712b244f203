import assert from "node:assert/strict";
import { connect, subscribe } from "../../mod.ts";
import { test, until } from "../harness/mod.ts";
import { role } from "../schema/_support/role.ts";
import { hark, oneByOne, output, refused } from "./_support/hark.ts";

async function following(url: string, args: string[], sql: (text: string) => Promise<unknown[]>) {
  const child = hark(["tail", ...args], { url });
  // It has begun once its LISTEN connection is there, which takes its key next.
  await until(async () =>
    (await sql(`select 1 from pg_stat_activity where datname = current_database()
      and query ~* '^(listen|select pg_try_advisory_lock)'`)).length > 0
  );
  return child;
}

test("tail shows what is published on every channel, live, and ends in order", async (c) => {
  const child = c.use(await following(c.url, [], c.sql));
  await until(async () => {
    await c.sql("select hark.notify('a', '{\"x\":1}', 'k'), hark.notify('b', '2')");
    return child.stdout.includes("b #");
  });
  assert.match(
    child.stdout,
    /^live {3}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z a #\d+ \{"x": 1\} key=k$/m,
  );
  assert.match(child.stdout, /^live .* b #\d+ 2$/m);
  child.kill("SIGINT");
  assert.equal((await child.ended()).code, 0);
});

test("tail shows the channels it was told, as JSON lines", async ({ url, sql }) => {
  await sql(
    "select hark.notify('a', '1'), hark.notify('b', '2'), hark.notify('c', '{\"n\":1.50}')",
  );
  const lines = await output(
    ["tail", "b", "c", "--from", "beginning", "--limit", "2", "--json"],
    { url },
  );
  const [b, c] = lines.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual([b.id, b.channel, b.payload, b.isReplay], [2, "b", 2, true]);
  assert.deepEqual([c.channel, c.payload, c.key, c.headers], ["c", { n: 1.5 }, null, {}]);
  assert(lines.includes('{"n": 1.50}'), "numbers keep their digits");
});

test("tail begins at an id or at a time", async ({ url, sql }) => {
  await sql("select hark.notify('a', to_jsonb(i)) from generate_series(1, 3) i");
  await sql("update hark.log set created_at = created_at - interval '1 hour' where id = 1");
  const ids = async (...args: string[]) =>
    (await output(["tail", "--json", ...args], { url })).trim().split("\n")
      .map((line) => JSON.parse(line).id);
  assert.deepEqual(await ids("--from", "2", "--limit", "2"), [2, 3]);
  assert.deepEqual(await ids("--since", "10m", "--limit", "2"), [2, 3]);
  assert.deepEqual(await ids("--since", "2h", "--limit", "3"), [1, 2, 3]);
  const soon = new Date(Date.now() - 600_000).toISOString();
  assert.deepEqual(await ids("--from", soon, "--limit", "1"), [2]);
});

test("tail into a program that stops reading ends without an error", async ({ url, sql }) => {
  await sql("select hark.notify('a', to_jsonb(i)) from generate_series(1, 20000) i");
  const root = new URL("../../", import.meta.url).pathname;
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--quiet", "-P=hark", "cli.ts", "tail", "--from", "beginning"],
    cwd: root,
    env: { DATABASE_URL: url, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = process.stdout.getReader();
  assert.match(new TextDecoder().decode((await reader.read()).value), /^replay/);
  await reader.cancel();
  const stderr = await new Response(process.stderr).text();
  assert.deepEqual([stderr, (await process.status).code], ["", 0]);
});

test("tail refuses what it cannot begin at", async ({ url }) => {
  await oneByOne<[string[], RegExp]>([
    [["--from", "yesterday"], /--from is "yesterday"/],
    [["--from", "0"], /--from is "0"/],
    [["--from", "2026-13-45"], /--from is/],
    [["--since", "10"], /--since is "10"/],
    [["--since", "10m", "--from", "now"], /contradict/],
    [["--limit", "0"], /whole number of at least 1/],
    [[""], /channel "" has no characters/],
    [["x".repeat(201)], /201 characters/],
  ], async ([args, sentence]) => await refused(["tail", ...args], 2, sentence, { url }));
});

test("JSON holds no character that could steer a terminal, and means the same", async (c) => {
  const { url, sql } = c;
  const payload = "a\u009b31m\u007f\u202eb\u2066\u061c";
  await sql("select hark.notify($1, to_jsonb($2::text))", ["c\u0085", payload]);
  await sql("select hark.register($1, array['c'])", ["r\u202e"]);
  for (
    const args of [
      ["tail", "--from", "beginning", "--limit", "1"],
      ["notify", "d\u009b"],
      ["consumers", "list"],
    ]
  ) {
    const text = await output([...args, "--json"], { url });
    // deno-lint-ignore no-control-regex -- control characters are what it is about
    assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u202e\u2066]/);
    const value = JSON.parse(text);
    if (args[0] === "tail") assert.deepEqual([value.channel, value.payload], ["c\u0085", payload]);
    else if (args[0] === "notify") assert.equal(value.channel, "d\u009b");
    else assert.equal(value[0].consumer, "r\u202e");
  }
});

test("tail shows control characters, and does not send them to the terminal", async (c) => {
  const { url, sql } = c;
  await sql(`select hark.notify(E'or\\x1b[2Jders', '"a\\u009b\\u007f\\u202e"', E'k\\x07\\n')`);
  const text = await output(["tail", "--from", "beginning", "--limit", "1"], { url });
  // deno-lint-ignore no-control-regex -- control characters are what it is about
  assert.doesNotMatch(text, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
  assert.match(text, / or\\u001b\[2Jders #1 "a\\u009b\\u007f\\u202e" key=k\\u0007\\u000a\n$/);
});

test("tail --no-follow shows what there is and ends, also for a role that may only operate", async (context) => {
  const { url, sql } = context;
  assert.equal(await output(["tail", "--no-follow"], { url }), "");
  await sql(
    "select hark.notify(case when n = 5 then 'b' else 'a' end) from generate_series(1, 9) n",
  );
  const ids = async (...args: string[]) =>
    (await output(["tail", "--json", "--no-follow", ...args], { url })).trim().split("\n")
      .map((line) => JSON.parse(line).id);
  assert.deepEqual(await ids("--from", "beginning", "--limit", "100"), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(await ids(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(await ids("--from", "8"), [8, 9]);
  assert.deepEqual(await ids("b", "--since", "1h"), [5]);
  assert.deepEqual(await ids("--limit", "2"), [1, 2]);
  await refused(["tail", "--no-follow", "--from", "now"], 2, /contradict/, { url });
  const operator = await role(context);
  await sql("select hark.grant_operate($1)", [operator.name]);
  const lines = await output(["tail", "--no-follow", "--json"], { url: operator.url });
  assert.equal(lines.trim().split("\n").length, 9);
  // It follows, too.
  const child = context.use(hark(["tail", "--json"], { url: operator.url }));
  await until(async () => {
    await sql("select hark.notify('c')");
    return child.stdout.includes('"c"');
  });
  child.kill("SIGINT");
  assert.equal((await child.ended()).code, 0);
});

test("a subscription that does not follow ends with what had committed when it began", async ({ url, client, sql, use }) => {
  const db = use(await connect(url));
  await sql("select hark.notify('a', to_jsonb(n)) from generate_series(1, 1200) n");
  const late = await client();
  await late.query("begin");
  await late.query("select hark.notify('a', '-1')");
  const seen: number[] = [];
  for await (const { payload } of subscribe(db, "a", { from: "beginning", follow: false })) {
    if (seen.push(payload) === 1) {
      await late.query("commit");
      await sql("select hark.notify('a', '-2')");
    }
  }
  assert.equal(seen.length, 1200);
  assert(seen.every((payload) => payload > 0));
  await assert.rejects(
    async () => {
      // deno-lint-ignore no-explicit-any -- wrong on purpose
      for await (const _ of subscribe(db, "a", { follow: 1 as any }));
    },
    { code: "BAD_OPTION", message: /follow is 1/ },
  );
});
