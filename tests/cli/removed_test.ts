/** A consumer is removed by hand while `hark listen` runs it with others: the others go on. */

import assert from "node:assert/strict";
import { scratch, test, type TestContext, until } from "../harness/mod.ts";
import { hark, printer, writeModules } from "./_support/hark.ts";

/** Starts the consumers "one" and "two", waits until both handle, and removes "two". */
async function removeTwo({ url, sql, use }: TestContext, one: string, options: readonly string[]) {
  const folder = use(await scratch());
  await writeModules(folder.path, { "two.ts": one + printer("two") });
  const child = use(hark(["listen", folder.path, ...options], { url }));
  await sql("select hark.notify('orders', '1')");
  await Promise.all([child.line(/^one 1 /), child.line(/^two 1 /)]);
  // A worker that comes later would register it anew.
  const workers = options.includes("2") ? 2 : 1;
  await until(async () => {
    const found = await sql("select workers, handled::int from hark.status() where handled > 0");
    return found.length === 2 && found.every((each) => each.workers === workers);
  });
  await sql("select hark.remove_consumer('two')");
  return child;
}

const ids = async ({ sql }: TestContext) =>
  (await sql("select consumer from hark.status()")).map(({ consumer }) => consumer);

for (const options of [["--workers", "2"], ["--watch"], ["--watch", "--workers", "2"]]) {
  test(`with ${options.join(" ")}, the removal of one consumer is told at once, and the others go on`, async (context) => {
    const child = await removeTwo(context, printer("one"), options);
    await child.line(/^hark: w[12]: consumer "two" ended: /);
    await context.sql("select hark.notify('orders', '2')");
    await child.line(/^one 2 /);
    child.kill("SIGINT");
    const { code, stderr } = await child.ended();
    assert.equal(code, 2, stderr);
    assert.doesNotMatch(stderr, /starts again in/);
    assert.deepEqual(await ids(context), ["one"]);
  });
}

test("a thread that starts again leaves out a consumer that was removed", async (context) => {
  const { sql } = context;
  const ends = `export const one = { id: "one", channels: "orders", acknowledgeInterval: 0,
    handle({ payload }) {
      console.log("one", payload, self.name);
      if (payload === 2) setTimeout(() => Deno.exit(3), 200);
    } };\n`;
  const child = await removeTwo(context, ends, ["--workers", "2"]);
  await child.line(/^hark: w[12]: consumer "two" ended: /);
  await sql("select hark.notify('orders', '2')");
  await child.line(/ ended and starts again in /);
  await sql("select hark.notify('orders', '3')");
  await child.line(/^one 3 /);
  child.kill("SIGINT");
  assert.equal((await child.ended()).code, 2);
  assert.deepEqual(await ids(context), ["one"]);
});

test("after a removal, a consumer that stops itself says so, and the others go on", async (context) => {
  const { sql } = context;
  const stops = `import { Consumer } from "@hark/postgres";
export class Three extends Consumer {
  id = "three";
  channels = "three";
  handle() { void this.stop(); }
}\n`;
  const child = await removeTwo(context, stops + printer("one"), []);
  await child.line(/^hark: consumer "two" ended: /);
  await sql("select hark.notify('three')");
  await child.line(/^three has stopped$/);
  await sql("select hark.notify('orders', '2')");
  await child.line(/^one 2 /);
  child.kill("SIGINT");
  assert.equal((await child.ended()).code, 2);
});

test("the removal of the last consumer ends hark listen", async (context) => {
  const child = await removeTwo(context, printer("one"), ["--workers", "2"]);
  await child.line(/^hark: w[12]: consumer "two" ended: /);
  await context.sql("select hark.remove_consumer('one')");
  const { code, stderr } = await child.ended();
  assert.equal(code, 2, stderr);
  assert.match(stderr, /^hark: w[12]: consumer "one" ended: /m);
});
