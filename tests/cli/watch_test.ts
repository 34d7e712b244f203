import assert from "node:assert/strict";
import { test, until } from "../harness/mod.ts";
import { hark, jsonOutput, oneByOne, output, ran, refused } from "./_support/hark.ts";

const table = "create table users (id integer primary key, email text, age integer)";

test("a table is watched, listed and no longer watched from the shell", async ({ url, sql }) => {
  assert.equal(await output(["watch", "list"], { url }), "no table is watched\n");
  await sql(table);
  assert.equal(
    await output(["watch", "add", "users"], { url }),
    'public.users is watched, on channel "public.users"\n',
  );
  assert.match(
    await output(["watch", "add", "public.users"], { url }),
    /watched like this already/,
  );
  await sql("insert into users values (1, 'a', 2)");
  assert.equal((await sql("select * from hark.log where channel = 'public.users'")).length, 1);
  const list = await output(["watch", "list"], { url });
  assert.match(list, /^table +watch +channel +on +payload +key +triggers +snapshot +state$/m);
  assert.match(list, /^public\.users +watch +public\.users +all +full +id +statement +- +ok$/m);
  assert.deepEqual(await jsonOutput(["watch", "remove", "users"], { url }), {
    table: "users",
    name: "watch",
    removed: true,
  });
  const again = await ran(["watch", "remove", "users"], { url });
  assert.deepEqual([again.code, again.stdout], [1, "users was not watched\n"]);
});

test("every option is taken from the command line", async ({ url, sql }) => {
  await sql(table);
  const options = [
    ...["--channel", "people", "--name", "adults", "--on", "Insert,update", "--exclude", "email"],
    ...["--key", "email, id", "--when", "new.age > 17", "--if-changed", "age,email"],
    ...["--payload", "diff", "--header", "source=shell", "--header", "note=a=b"],
    ...["--max-bytes", "2000", "--replicated", "--level", "row", "--lock-timeout", "500ms"],
  ];
  const made = await jsonOutput(["watch", "add", "users", ...options], { url });
  assert.deepEqual([made.outcome, made.channel, made.name, made.level], [
    "created",
    "people",
    "adults",
    "row",
  ]);
  const [one] = await jsonOutput(["watch", "list"], { url });
  const { condition, if_changed, headers, max_bytes, replicated, exclude } = one.definition;
  assert.deepEqual([one.operations, one.payload, one.key], [["insert", "update"], "diff", [
    "email",
    "id",
  ]]);
  assert.deepEqual([condition, if_changed, headers], [
    "new.age > 17",
    ["age", "email"],
    { source: "shell", note: "a=b" },
  ]);
  assert.deepEqual([max_bytes, replicated, exclude], [2000, true, ["email"]]);
  assert.match(
    await output(["watch", "add", "users", "--if-changed", "any", "--include", "age"], { url }),
    /is watched,/,
  );
  assert.deepEqual(
    (await jsonOutput(["watch", "list"], { url }))[1].definition.if_changed,
    ["*"],
  );
  await output(["watch", "remove", "users", "--name", "adults"], { url });
  assert.equal((await jsonOutput(["watch", "list"], { url })).length, 1);
});

test("watch sql prints what add would run, and runs as it is", async ({ url, sql }) => {
  await sql(table);
  const script = await output(["watch", "sql", "users", "--payload", "key"], { url });
  assert.doesNotMatch(script, /^(begin|commit);$/m);
  assert.equal(await output(["watch", "list"], { url }), "no table is watched\n");
  await sql(script);
  assert.match(await output(["watch", "list"], { url }), /^public\.users .* key .* ok$/m);
});

test("what has drifted is told by watch list and by status, and neither fails for it", async ({ url, sql }) => {
  await sql(table);
  await sql(`create table "Gone" (id integer primary key)`);
  await output(["watch", "add", "users"], { url });
  await output(["watch", "add", '"Gone"'], { url });
  await sql("alter table users disable trigger user");
  await sql(`drop table "Gone"`);
  const disabled = /^public\.users +watch +.*is disabled/m;
  const gone = /^public\.Gone +watch +the table is gone.*\n +hark watch remove public\.Gone$/m;
  const list = await output(["watch", "list"], { url });
  assert.match(list, /^public\.users .* drifted$/m);
  assert.match(list, /^public\.Gone .* gone$/m);
  const status = await output(["status"], { url });
  for (const sentence of [disabled, gone]) {
    assert.match(list, sentence);
    assert.match(status, sentence);
  }
  const { watches } = await jsonOutput(["status"], { url });
  assert.deepEqual(watches.map((one: { exists: boolean }) => one.exists), [false, true]);
  assert.match(await output(["watch", "remove", "public.Gone"], { url }), /is no longer watched/);
  await sql("alter table users enable trigger user");
  assert.doesNotMatch(await output(["status"], { url }), /drifted/);
});

test("a snapshot publishes what is there, and says so", async ({ url, sql }) => {
  await sql(table);
  await sql("insert into users select n, 'x', n from generate_series(1, 25) n");
  const add = ["watch", "add", "users", "--snapshot"];
  assert.match(
    await output([...add, "--batch-size", "10"], { url }),
    /is watched,.*\nsnapshot: 25 rows published\n$/,
  );
  assert.match(await output(add, { url }), /done before, 25 rows published; --again repeats it$/m);
  const again = await jsonOutput([...add, "--again"], { url });
  assert.deepEqual(again.snapshot, { published: 25, total: 25, done: true });
  assert.match(await output(["watch", "list"], { url }), /^public\.users .* done \d.* ago +ok$/m);
});

test("a watch that has drifted is repaired, and keeps what it was told", async ({ url, sql }) => {
  await sql(table);
  await output(["watch", "add", "users", "--channel", "people", "--exclude", "age"], { url });
  assert.match(await output(["watch", "repair", "users"], { url }), /^users needs no repair$/m);
  await sql("alter table users rename age to years; alter table users add column more text");
  assert.match(await output(["watch", "list"], { url }), /drifted/);
  assert.match(
    await output(["watch", "repair", "users"], { url }),
    /^users is repaired$/m,
  );
  assert.match(await output(["watch", "list"], { url }), / people .* ok$/m);
  await sql("insert into users (id, email, years, more) values (1, 'a@b', 36, 'x')");
  const [{ payload }] = await sql("select payload from hark.log where channel = 'people'");
  assert.deepEqual(Object.keys(payload.new).sort(), ["email", "id", "more"]);
});

test("Ctrl-C ends a snapshot between two batches, and says how to go on", async ({ url, sql, use, client }) => {
  await sql(table);
  await sql("insert into users select n, 'x', n from generate_series(1, 5000) n");
  await output(["watch", "add", "users"], { url });
  const holder = await client();
  await holder.query("begin");
  await holder.query("update users set age = 0 where id = 2000");
  const add = ["watch", "add", "users", "--snapshot", "--batch-size", "100"];
  const child = use(hark(add, { url }));
  const count = async () => (await sql("select snapshot_count::int as n from hark.watches"))[0].n;
  await until(async () => await count() === 1999, { deadline: 30_000 });
  child.kill("SIGINT");
  const { code, stdout, stderr } = await child.ended();
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^snapshot: 1,999 rows published, not done$/m);
  assert.match(stderr, /^hark: the snapshot is not done; the same command.* goes on with it$/m);
  assert.match(await output(["watch", "list"], { url }), / 1,999, not done +ok$/m);
  await holder.query("commit");
  assert.match(
    await output(["watch", "add", "users", "--snapshot"], { url }),
    /^snapshot: 3,001 rows published, 5,000 in all$/m,
  );
});

test("wrong arguments are refused, with what would be right", async ({ url, sql }) => {
  await sql(table);
  await oneByOne<[string[], RegExp]>([
    [[], /one more word: add, repair, remove, list or sql/],
    [["ad", "users"], /Did you mean `add`/],
    [["add"], /TABLE/],
    [["add", "user"], /there is no table user\..*with its schema/],
    [["remove", "user"], /there is no table user/],
    [["sql", "user"], /there is no table user/],
    [["add", "users", "--on", "upsert"], /an operation is "upsert".*insert/],
    [["add", "users", "--include", "nope"], /nope.*Its columns are id, email, age/],
    [["add", "users", "--header", "x"], /NAME=VALUE is "x".*source=crm/],
    [["add", "users", "--payload", "all"], /full/],
    [["add", "users", "--max-bytes", "5"], /BYTES is "5"/],
    [["add", "users", "--level", "table"], /statement/],
    [["add", "users", "--when", "nwe.age"], /cannot be used/],
    [["add", "users", "--batch-size", "5"], /--batch-size is about a snapshot.*--snapshot/],
    [["add", "users", "--again"], /--again is about a snapshot/],
    [["add", "users", "--snapsot"], /Did you mean `--snapshot`/],
  ], async ([args, sentence]) => await refused(["watch", ...args], 2, sentence, { url }));
});

test("a table that is being written to is waited for no longer than told", async ({ url, sql, client }) => {
  await sql(table);
  const writer = await client();
  await writer.query("begin");
  await writer.query("insert into users values (1)");
  const { code, stderr } = await ran(["watch", "add", "users", "--lock-timeout", "100ms"], { url });
  await writer.query("rollback");
  assert.match(stderr, /^hark: could not lock table users within 100 ms/m);
  assert.equal(code, 3);
});

test("without the schema each says so", { schema: false }, async ({ url }) => {
  await oneByOne([["add", "t"], ["remove", "t"], ["list"], ["sql", "t"]], async (args) => {
    await refused(["watch", ...args], 4, /hark init/, { url });
  });
});

test("uninstall takes the triggers of watched tables along", async ({ url, sql }) => {
  await sql(table);
  await output(["watch", "add", "users"], { url });
  const done = await jsonOutput(["uninstall", "--yes"], { url });
  assert.deepEqual([done.removed, done.left], [true, []]);
  assert.deepEqual(await sql("select tgname from pg_trigger where not tgisinternal"), []);
});
