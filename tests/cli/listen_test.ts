import assert from "node:assert/strict";
import { join } from "node:path";
import { scratch, test, until } from "../harness/mod.ts";
import {
  hark,
  jsonOutput,
  oneByOne,
  output,
  printer,
  ran,
  refused,
  writeModules,
} from "./_support/hark.ts";

const classes = `import { Consumer } from "@hark/postgres";
export class Mail extends Consumer {
  id = "mail"; channels = ["orders", "mail"];
  handle(n) { console.log("mail", n.payloadText); }
}
export { Consumer };
export const notOne = { handle: "with care" };
export default Mail;
`;

test("listen runs every consumer of a folder in one process, live and replayed", async (c) => {
  const { url, sql, use } = c;
  const folder = use(await scratch());
  await writeModules(folder.path, {
    "billing.ts": printer("billing"),
    "mail.ts": classes,
    "nothing.ts": "export const help = 1;",
    "billing_test.ts": "throw new Error('a test was imported')",
    "types.d.ts": "throw new Error('a declaration was imported')",
    "notes.md": "no module",
  });
  await sql("select hark.notify('orders', '1')");
  const child = use(hark(["listen", folder.path], { url }));
  await Promise.all([child.line(/^billing 1 replay$/), child.line(/^mail 1$/)]);
  await sql("select hark.notify('orders', '2'), hark.notify('mail', '3')");
  await Promise.all([
    child.line(/^billing 2 live$/),
    child.line(/^mail 2$/),
    child.line(/^mail 3$/),
  ]);
  child.kill("SIGTERM");
  const { code, stdout, stderr } = await child.ended();
  assert.equal(code, 0, stderr);
  assert.doesNotMatch(stdout, /^billing 3/m);
  assert.match(stderr, /stopped; progress is stored/);
  assert.deepEqual(await sql("select consumer, handled::int as handled from hark.status()"), [
    { consumer: "billing", handled: 2 },
    { consumer: "mail", handled: 3 },
  ]);
  // The next start goes on where this one ended.
  await sql("select hark.notify('orders', '4')");
  const drained = await output(["listen", folder.path, "--drain"], { url });
  assert.match(
    drained,
    /^billing 4 replay$[^]*^consumer +handled +failed\nbilling +1 +0\nmail +1 +0\n$/m,
  );
});

test("a killed listen repeats what it had not stored, and nothing is lost", async (c) => {
  const { url, sql, use } = c;
  const folder = use(await scratch());
  await writeModules(folder.path, { "billing.ts": printer("billing", "orders", "lease: 1000,") });
  await sql("select hark.notify('orders', to_jsonb(i)) from generate_series(1, 50) i");
  const args = ["listen", join(folder.path, "billing.ts")];
  const first = use(hark(args, { url }));
  await first.line(/^billing 50 replay$/);
  first.kill("SIGKILL");
  await first.ended();
  await sql("select hark.notify('orders', '51')");
  const second = use(hark(args, { url }));
  await second.line(/^billing 51 /);
  second.kill("SIGINT");
  assert.equal((await second.ended()).code, 0);
  const all = `${first.stdout}${second.stdout}`.match(/^billing \d+/gm) ?? [];
  assert.equal(new Set(all).size, 51);
});

test("listen runs the consumers that were chosen", async ({ url, use }) => {
  const folder = use(await scratch());
  const array = `export default [
    { id: "a", channels: ["x"], handle() {} }, { id: "b", channels: "y", handle() {} },
  ];`;
  await writeModules(folder.path, { "array.js": array, "billing.mjs": printer("billing") });
  const ids = async (...args: string[]) =>
    (await jsonOutput(["listen", folder.path, "--list-consumers", ...args], { here: true }))
      .consumers.map(({ id }: { id: string }) => id);
  assert.deepEqual(await ids(), ["a", "b", "billing"]);
  assert.deepEqual(await ids("--consumers", "billing,a"), ["a", "billing"]);
  assert.deepEqual(await ids("--exclude-consumers", "a"), ["b", "billing"]);
  const list = await output(["listen", folder.path, "--list-consumers"], { here: true });
  assert.match(list, /^consumer +channels +module\na +x +file:.*array\.js\n/);
  for (const flag of ["--consumers", "--exclude-consumers"]) {
    const args = ["listen", folder.path, flag, "a,biling"];
    await refused(args, 2, /no consumer "biling"[^]*There are: a, b, billing/, { url, here: true });
  }
  const none = ["listen", folder.path, "--exclude-consumers", "a,b,billing"];
  await refused(none, 2, /every consumer is excluded/, { url, here: true });
});

test("listen --drain handles what is there, says how many, and ends", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  const quiet = `export const quiet = { id: "quiet", channels: "orders", handle() {} };`;
  await writeModules(folder.path, { "quiet.ts": quiet });
  await sql("select hark.notify('orders') from generate_series(1, 1200)");
  const args = ["listen", folder.path, "--drain"];
  assert.deepEqual(await jsonOutput(args, { url }), [{
    consumer: "quiet",
    handled: 1200,
    failed: 0,
  }]);
  assert.equal(
    await output(args, { url }),
    "consumer  handled  failed\nquiet           0       0\n",
  );
});

test(
  "listen --drain counts what cannot be read as failed",
  { encoding: "SQL_ASCII" },
  async ({ url, sql, use }) => {
    const folder = use(await scratch());
    await writeModules(folder.path, { "quiet.ts": printer("quiet") });
    const payload = "to_jsonb(convert_from('\\x81'::bytea, 'SQL_ASCII'))";
    await sql(`select hark.notify('orders', ${payload})`);
    const { code, stdout } = await ran(["listen", folder.path, "--drain"], { url });
    assert.match(stdout, /^quiet +0 +1$/m);
    assert.equal(code, 0);
  },
);

test("listen --init installs the schema", { schema: false }, async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "billing.ts": printer("billing") });
  const args = ["listen", folder.path, "--init", "--drain"];
  assert.equal(
    await output(args, { url }),
    "consumer  handled  failed\nbilling         0       0\n",
  );
});

test("listen without a module registers no sample in a given database", async ({ url, sql }) => {
  await refused(["listen"], 2, /there is no module[^]*hark tail/, { url, here: true });
  const drain = ["listen", "--drain", "--database-url", url];
  await refused(drain, 2, /there is no module/, { here: true });
  assert.deepEqual(await sql("select from hark.consumers"), []);
});

test("listen recognises consumers of another copy of the package", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  const other = new URL("../../src/consume/consumer.ts?copy", import.meta.url);
  await writeModules(folder.path, { "mail.ts": classes.replace("@hark/postgres", other.href) });
  await sql("select hark.notify('mail', '7')");
  assert.match(await output(["listen", folder.path, "--drain"], { url }), /^mail 7\n/);
});

Deno.test("listen says what is wrong with a module", async () => {
  await using folder = await scratch();
  const { path } = folder;
  await Deno.mkdir(join(path, "empty"));
  await Deno.mkdir(join(path, "useless"));
  await writeModules(path, {
    "throws.ts": 'throw new TypeError("no such table");',
    "syntax.ts": "export const = 1;",
    "imports.ts": 'import "./nowhere.ts";',
    "nothing.ts": "export const consumer = 1;",
    "useless/one.ts": "export {};",
    "noid.ts": classes.replace('id = "mail";', ""),
    "nochannel.ts": 'export default { id: "x", handle() {} };',
    "badchannel.ts": 'export default { id: "x", channels: [""], handle() {} };',
    "misspelt.ts": 'export default { id: "x", chanels: ["a"], handle() {} };',
    "constructor.ts": classes.replace("id =", "constructor() { super(); }\n id ="),
    "a.ts": printer("same"),
    "b.ts": printer("same"),
    "almost.ts": printer("good") + 'export const typo = { id: "t", channels: "x", handel() {} };',
    "array.ts": `${printer("good")}export default [{ id: "t", channels: "x", handel() {} }];`,
  });
  const url = "postgres://127.0.0.1:1/never"; // refused before it is connected to
  await oneByOne<[string[], RegExp]>(
    [
      [["missing.ts"], /there is no module .*missing\.ts/],
      [["empty"], /no module in the folder .*empty/],
      [["useless"], /no module in the folder .*useless exports a consumer/],
      [["throws.ts"], /throws\.ts cannot be imported: TypeError: no such table/],
      [["syntax.ts"], /syntax\.ts cannot be imported/],
      [["imports.ts"], /imports\.ts cannot be imported:.*nowhere\.ts/],
      [["nothing.ts"], /nothing\.ts exports no consumer[^]*extends Consumer/],
      [["noid.ts"], /class Mail in .*noid\.ts has no id/],
      [["nochannel.ts"], /nochannel\.ts: channels of consumer "x" is undefined/],
      [["badchannel.ts"], /channel "" has no characters\. Give a name of 1 to 200 characters\.$/m],
      [["almost.ts"], /export "typo" in .*almost\.ts has an id .* no function "handle"/],
      [["array.ts"], /export "default" in .*array\.ts has .*It has: id, channels, handel/],
      [["misspelt.ts"], /no option "chanels"/],
      [["constructor.ts"], /class Mail in .*constructor\.ts: db is undefined/],
      [["jsr:@nobody/nothing@0"], /jsr:@nobody\/nothing@0 cannot be imported/],
      [["throws.ts", "--json"], /--json goes with/],
      [["--list-consumers", "--drain"], /contradict/],
      [["a.ts", "--consumers", ","], /IDS is empty/],
    ],
    async ([args, sentence]) => {
      const given = args.map((arg, i) => i > 0 || /^-|^jsr:/.test(arg) ? arg : join(path, arg));
      await refused(["listen", ...given], 2, sentence, { url, here: true });
    },
  );
  const both = ["listen", join(path, "a.ts"), join(path, "b.ts")];
  await refused(both, 1, /two consumers have the id "same".*a\.ts.*b\.ts/, { url, here: true });
  // As a person types it: relative to the folder.
  await refused(["listen", "a.ts", "b.ts"], 1, /two consumers have the id "same"/, {
    url,
    cwd: path,
  });
});

Deno.test("a module that is refused is refused before the address of the metrics is told", async () => {
  const { code, stderr } = await ran(["listen", "no_such.ts", "--metrics", "0"], {
    url: "postgres://127.0.0.1:1/never",
    here: true,
  });
  assert.equal(code, 2, stderr);
  assert.match(stderr, /^hark: /, "nothing was said before");
});

test("a consumer that is removed ends with an error; the others go on", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": printer("one") + printer("two") });
  const child = use(hark(["listen", folder.path], { url }));
  await sql("select hark.notify('orders', '1')");
  await Promise.all([child.line(/^one 1 /), child.line(/^two 1 /)]);
  await until(async () =>
    (await sql("select sum(handled)::int as n from hark.status()"))[0].n === 2
  );
  await sql("select hark.remove_consumer('two')");
  await sql("select hark.notify('orders', '2')");
  await child.line(/^hark: consumer "two" ended: /);
  await child.line(/^one 2 /);
  child.kill("SIGINT");
  const { code, stderr } = await child.ended();
  assert.equal(code, 2, stderr);
  assert.doesNotMatch(stderr, /^\s+at /m);
  const [row] = await sql(
    "select consumer, (select bool_and(owner is null) from hark.partitions) as released from hark.status()",
  );
  assert.deepEqual(row, { consumer: "one", released: true });
});

test("Ctrl-C says what it waits for, and a second one ends it at once", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  const hangs = `export const hangs = { id: "hangs", channels: "orders",
    handle() { console.log("begun"); return new Promise(() => {}); } };`;
  await writeModules(folder.path, { "hangs.ts": hangs });
  await sql("select hark.notify('orders')");
  // Whatever the level of logs is.
  const child = use(hark(["listen", folder.path, "--log-level", "error"], { url }));
  await child.line(/^begun$/);
  child.kill("SIGINT");
  await child.line(
    /^hangs: waiting for 1 handler \(orders #1\); Ctrl-C again ends at once$/,
    { deadline: 3000 },
  );
  await child.line(
    /^hangs: still waiting for 1 handler \(orders #1\), for at most 2\d s more; Ctrl-C again/,
  );
  const again = setInterval(() => child.kill("SIGINT"), 150);
  const { code } = await child.ended();
  clearInterval(again);
  assert.equal(code, 130);
});

test("logs go to standard error, as text or as JSON, as much as asked for", async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, {
    "a.ts": printer("a"),
    "b.ts": printer("b"),
    "c.ts": printer("c"),
  });
  const drain = async (name: string, ...args: string[]) =>
    (await ran(["listen", join(folder.path, name), "--drain", ...args], { url })).stderr;
  assert.match(await drain("a.ts"), /^\d\d:\d\d:\d\d\.\d+ info hark\.consumer: a is registered\n$/);
  assert.equal(await drain("b.ts", "--log-level", "warning"), "");
  const [line] = (await drain("c.ts", "--log-format", "json")).split("\n");
  const { message, level, properties } = JSON.parse(line!);
  assert.match(message, /is registered/);
  assert.deepEqual([level, properties.consumer], ["INFO", "c"]);
  await refused(["listen", "--log-level", "loud"], 2, /--log-level/, { url, here: true });
});

test("listen finds the folder consumers/ beside it, and says so", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await Deno.mkdir(join(folder.path, "consumers"));
  await writeModules(join(folder.path, "consumers"), {
    "billing.ts": printer("billing"),
    "mail.ts": classes,
  });
  await sql("select hark.notify('orders', '1')");
  const cwd = folder.path;
  const { code, stdout, stderr } = await ran(["listen", "--drain"], { url, cwd });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /taking the consumers of consumers\/, as no module is named/);
  assert.match(stdout, /^billing +1 +0\nmail +1 +0$/m);
  const ids = async (...args: string[]) =>
    (await jsonOutput(["listen", "--list-consumers", ...args], { url, cwd }))
      .consumers.map(({ id }: { id: string }) => id);
  assert.deepEqual(await ids(), ["billing", "mail"]);
});

test("the consumers to run are given by commas, by spaces, and more than once", async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, {
    "a.ts": printer("a"),
    "b.ts": printer("b"),
    "c.ts": printer("c"),
  });
  await oneByOne<[string[], string[]]>([
    [["--consumers", "a,b"], ["a", "b"]],
    [["--consumers", "a", "b"], ["a", "b"]],
    [["--consumers=a", "b"], ["a", "b"]],
    [["--consumers", "a", "--consumers", "b"], ["a", "b"]],
    [["--consumers", "a,b", "c"], ["a", "b", "c"]],
    [["--exclude-consumers", "a", "b"], ["c"]],
    [["--exclude-consumers", "a", "--exclude-consumers", "b", "--consumers", "b", "c"], ["c"]],
  ], async ([options, wanted]) => {
    for (const args of [[folder.path, ...options], [...options, folder.path]]) {
      const listed = await jsonOutput(["listen", "--list-consumers", ...args], { url, here: true });
      assert.deepEqual(
        listed.consumers.map(({ id }: { id: string }) => id),
        wanted,
        args.join(" "),
      );
    }
  });
  const unknown = ["listen", folder.path, "--consumers", "a", "z"];
  await refused(unknown, 2, /no consumer "z"\. There are: a, b, c/, { url, here: true });
});

test("listen runs a consumer whose channels follow from its handlers", async (c) => {
  const { url, sql, use } = c;
  const folder = use(await scratch());
  await writeModules(folder.path, {
    "billing.ts": `import { channel, on } from "@hark/postgres";
export const paid = channel("orders.paid", {
  "~standard": { version: 1, vendor: "x", validate: (value) => ({ value: new Set(value) }) },
});
export default { id: "billing", handle: on(paid, (set) => console.log("handled", set.size)) };
`,
  });
  await sql(`select hark.notify('orders.paid', '["a", "b"]')`);
  const { consumers: [found] } = await jsonOutput(
    ["listen", folder.path, "--list-consumers"],
    { here: true },
  );
  assert.deepEqual(found.channels, ["orders.paid"]);
  assert.match(await output(["listen", folder.path, "--drain"], { url }), /^handled 2$/m);
});
