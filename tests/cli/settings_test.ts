import assert from "node:assert/strict";
import config from "../../deno.json" with { type: "json" };
import { settingVariables } from "../../src/cli/listen/settings.ts";
import { scratch, test, until } from "../harness/mod.ts";
import { hark, jsonOutput, output, printer, ran, refused, writeModules } from "./_support/hark.ts";

const two = printer("billing", "orders", "pollInterval: 40, pageSize: 7,") +
  printer("mail", "letters");

test("a flag counts more than a variable, that more than code, that more than the default", async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": two });
  const variables = {
    HARK_PAGE_SIZE: "9",
    HARK_WORKERS: "2",
    HARK_LOG_LEVEL: "",
    HARK_CHANNELS: "",
  };
  const list = (...args: string[]) =>
    jsonOutput(["listen", folder.path, "--list-consumers", ...args], {
      url,
      here: true,
      variables,
    });
  const { settings, consumers } = await list("--workers", "3");
  assert.deepEqual(settings.workers, { value: 3, from: "flag", name: "--workers" });
  assert.deepEqual(settings.logLevel, { value: "info", from: "default" });
  assert.equal(settings.databaseUrl.name, "DATABASE_URL");
  const pageSize = { value: 9, from: "environment", name: "HARK_PAGE_SIZE" };
  const byCode = { value: 40, from: "code" };
  const byDefault = { value: 3000, from: "default" };
  const idle = { value: "poll", from: "default" };
  const idleAfter = { value: 60_000, from: "default" };
  // deno-lint-ignore no-explicit-any -- as JSON has it
  assert.deepEqual(consumers.map((one: any) => [one.id, one.settings]), [
    ["billing", { pollInterval: byCode, pageSize, idle, idleAfter }],
    ["mail", { pollInterval: byDefault, pageSize, idle, idleAfter }],
  ]);
  const flag = { value: 11, from: "flag", name: "--page-size" };
  assert.deepEqual((await list("--page-size", "11")).consumers[1].settings.pageSize, flag);
});

test("the list for people shows what is set, and no password", async ({ use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": two });
  const text = await output(["listen", folder.path, "--list-consumers"], {
    url: "postgres://me:secret@db.example/shop",
    here: true,
    variables: { HARK_MAX_RECONNECT_DELAY: "90s" },
  });
  assert.match(text, /^databaseUrl +postgres:\/\/me:\*\*\*@db\.example\/shop +DATABASE_URL$/m);
  assert.match(text, /^maxReconnectDelay +1m30s +HARK_MAX_RECONNECT_DELAY$/m);
  assert.match(text, /^pollInterval +billing +40ms +code$/m);
  assert.doesNotMatch(text, /secret|skipUnread/);
});

test("a wrong value of a variable is refused with its name, the value and what to give", async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": two });
  const wrong: [string, string, RegExp][] = [
    ["HARK_WORKERS", "0", /"0"\. Give a whole number from 1 to 64\./],
    ["HARK_POLL_INTERVAL", "3", /"3"\. Give 250ms, 10s.* A number needs its unit\./],
    ["HARK_PAGE_SIZE", "many", /"many"\. Give a whole number from 1 to 100000\./],
    ["HARK_MAX_RECONNECT_DELAY", "1ms", /"1ms"\. Give 250ms, .* from 10ms to .*/],
    ["HARK_SKIP_UNREAD", "yes", /"yes"\. Give true or false\./],
    ["HARK_LOG_LEVEL", "loud", /"loud"\. Give one of debug, info, warning, and error\./],
    ["HARK_LOG_FORMAT", "xml", /"xml"\. Give one of text and json\./],
    ["HARK_CONSUMERS", " , ", /" , "\. Give names, separated by commas\./],
  ];
  for (const [name, value, message] of wrong) {
    const options = { url, here: true, variables: { [name]: value } };
    const whole = new RegExp(`${name} is ${message.source} Correct the variable, or unset it\\.`);
    await refused(["listen", folder.path, "--drain"], 2, whole, options);
  }
});

test("the consumers of some channels run, by flag or by variable", async ({ url, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": two + printer("third", "orders") });
  const ids = async (args: string[], variables = {}) => {
    const list = ["listen", folder.path, "--list-consumers", ...args];
    const { consumers } = await jsonOutput(list, { url, here: true, variables });
    return consumers.map(({ id }: { id: string }) => id);
  };
  assert.deepEqual(await ids(["--channels", "orders"]), ["billing", "third"]);
  assert.deepEqual(await ids(["--channels", "letters", "orders"]), ["billing", "mail", "third"]);
  assert.deepEqual(await ids([], { HARK_CHANNELS: "letters" }), ["mail"]);
  assert.deepEqual(await ids([], { HARK_CHANNELS: "orders", HARK_EXCLUDE_CONSUMERS: "third" }), [
    "billing",
  ]);
  const unknown = ["listen", folder.path, "--list-consumers", "--channels", "order"];
  await refused(unknown, 2, /no consumer reads the channel "order"\. They read: orders, letters/, {
    url,
    here: true,
  });
});

test("the poll interval and the page size that are set are those that run", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, {
    "batches.ts": `import { Consumer } from "@hark/postgres";
export class Billing extends Consumer {
  override id = "billing"; override channels = ["orders"]; override pollInterval = 60_000;
  override handleBatch = (many) => { console.log("batch of", many.length); };
}`,
  });
  await sql("select hark.notify('orders') from generate_series(1, 4)");
  const child = use(hark(["listen", folder.path], {
    url,
    env: { HARK_PAGE_SIZE: "2", HARK_POLL_INTERVAL: "50ms" },
  }));
  await until(() => Promise.resolve((child.stdout.match(/^batch of 2$/gm)?.length ?? 0) === 2));
  // A row of which no NOTIFY tells is found by polling: at once, not within a minute.
  await sql("begin; set local hark.wake = off; select hark.notify('orders'); commit");
  await child.line(/^batch of 1$/);
  child.kill("SIGTERM");
  assert.equal((await child.ended()).code, 0);
});

test("--idle sleep has the consumers of a program sleep, and what is published wakes them", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": printer("billing") + printer("mail") });
  const child = use(hark(["listen", folder.path, "--idle", "sleep"], {
    url,
    env: { HARK_IDLE_AFTER: "200ms" },
  }));
  const asleep = async () => (await sql("select from hark.sleeping()")).length === 2;
  await until(asleep, { what: "both to sleep" });
  await sql("select hark.notify('orders', '1')");
  await Promise.all([child.line(/^billing 1 live$/), child.line(/^mail 1 live$/)]);
  await until(asleep, { what: "both to sleep again" });
  child.kill("SIGTERM");
  assert.equal((await child.ended()).code, 0);
  assert.deepEqual(await sql("select from hark.asleep"), []);
});

test("--skip-unread begins with what is published from now on", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": printer("billing") + printer("fresh") });
  await sql("select hark.register('billing', array['orders'])");
  await sql("select hark.notify('orders', to_jsonb(n)) from generate_series(1, 3) n");
  const child = use(hark(["listen", folder.path, "--skip-unread"], { url }));
  await child.line(/^"billing" skips 3 unread notifications$/);
  await until(async () =>
    (await sql("select count(owner)::int as n from hark.partitions"))[0].n === 2
  );
  await sql("select hark.notify('orders', '4')");
  await Promise.all([child.line(/^billing 4 live$/), child.line(/^fresh 4 live$/)]);
  // Another one does not skip what a worker is about to handle.
  const other = use(hark(["listen", folder.path, "--consumers", "billing"], {
    url,
    env: { HARK_SKIP_UNREAD: "true" },
  }));
  await other.line(/^"billing" skips nothing, as another worker serves it$/);
  for (const one of [child, other]) {
    one.kill("SIGTERM");
    assert.equal((await one.ended()).code, 0);
  }
  assert.doesNotMatch(child.stdout, / [123] /);
});

test("--drain counts what failed beside what was handled", async ({ url, sql, use }) => {
  const folder = use(await scratch());
  await writeModules(folder.path, {
    "fails.ts": `export const fails = { id: "fails", channels: "orders", pollInterval: 1000,
  retry: { initial: 10, maximum: 20 },
  handle(n) {
    if (n.payload === "twice" && n.attempt < 3) throw new Error("not yet");
    if (n.payload === "always") throw new Error("never");
  },
  maxAttempts: 4,
  onError(_, n) { console.error("own onError", n.payload); },
};`,
  });
  for (const payload of ["good", "twice", "always"]) {
    await sql("select hark.notify('orders', to_jsonb($1::text))", [payload]);
  }
  const { stdout, stderr, code } = await ran(["listen", folder.path, "--drain", "--json"], { url });
  assert.equal(code, 0, stderr);
  assert.deepEqual(JSON.parse(stdout), [{ consumer: "fails", handled: 2, failed: 1 }]);
  assert.match(stderr, /own onError twice/);
});

Deno.test("the permission set of hark listen names exactly the variables that count", () => {
  const allowed = config.permissions.listen.env.allow.filter((name) => name.startsWith("HARK_"));
  assert.deepEqual(allowed.toSorted(), ["HARK_POSTGRES", ...settingVariables].toSorted());
});
