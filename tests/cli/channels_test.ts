import assert from "node:assert/strict";
import { join } from "node:path";
import { connect, Consumer, on } from "../../mod.ts";
import { first, third } from "../channels/_support/orders.ts";
import { PROJECT, scratch, test } from "../harness/mod.ts";
import { output, ran, refused } from "./_support/hark.ts";

const module = join(PROJECT, "examples/channels.ts");

Deno.test("hark channels prints the typed channels of modules as AsyncAPI 3", async () => {
  for (const args of [[module], ["show", module, module]]) {
    const { asyncapi, channels } = JSON.parse(await output(["channels", ...args]));
    assert.equal(asyncapi, "3.0.0");
    assert.deepEqual(Object.keys(channels), ["orders.paid", "orders.refunded"]);
    const { address, messages } = channels["orders.paid"];
    assert.equal(address, "orders.paid");
    assert.deepEqual(Object.keys(messages), ["v1", "v2"]);
    assert.deepEqual(messages.v1.payload.required, ["id", "total"]);
    assert.equal(messages.v2.payload.properties.tags.type, "array");
    assert.deepEqual(messages.v2.headers.properties, { "hark-version": { const: 2 } });
  }
});

Deno.test("hark channels check fails on an incompatible change, and names it", async () => {
  await using folder = await scratch();
  const old = join(folder.path, "old.json");
  await Deno.writeTextFile(old, await output(["channels", module]));
  assert.match(
    await output(["channels", "check", "--against", old, module]),
    /^no channel has changed incompatibly/,
  );
  const changed = JSON.parse(await Deno.readTextFile(old));
  const { v2 } = changed.channels["orders.paid"].messages;
  v2.payload.properties.total.type = "string";
  changed.channels["orders.lost"] = changed.channels["orders.refunded"];
  changed.channels["orders.lost"].address = "orders.lost";
  await Deno.writeTextFile(old, JSON.stringify(changed));
  const { code, stdout } = await ran(["channels", "check", "--against", old, module]);
  assert.equal(code, 1);
  assert.match(
    stdout,
    /channel "orders.paid" version 2 may not read what is stored: total: type is number, was string/,
  );
  assert.match(stdout, /channel "orders.lost" is gone/);
  const json = await ran(["channels", "check", "--against", old, module, "--json"]);
  assert.equal(json.code, 1);
  assert.equal(JSON.parse(json.stdout).incompatible.length, 3);
});

Deno.test("hark channels says what is wrong with what it is given", async () => {
  await using folder = await scratch();
  const empty = join(folder.path, "empty.ts");
  await Deno.writeTextFile(empty, "export const a = 1;");
  await refused(["channels", empty], 2, /exports no typed channel/);
  await refused(["channels", join(folder.path, "none.ts")], 2, /there is no module/);
  await refused(["channels", "check", "--against", empty, module], 2, /is not JSON/);
  await refused(
    ["channels", "check", "--against", join(folder.path, "none.json"), module],
    2,
    /cannot be read/,
  );
  await Deno.writeTextFile(empty, "{}");
  await refused(["channels", "check", "--against", empty, module], 2, /is none of hark channels/);
  assert.equal((await ran(["channels"])).code, 2);
});

test("hark status says what waits for a worker of a newer program", async (context) => {
  const db = context.use(await connect(context.url));
  for (const id of ["a", "b"]) {
    await third.notify(db, { id, cents: 1, currency: "EUR" }, { key: id });
  }
  await new Consumer(db, { id: "billing", handle: on(first, () => assert.fail()) }).drain();
  const lines = (await output(["status"], context)).split("\n");
  const at = lines.findIndex((line) => line.startsWith("waits for a newer worker"));
  assert.match(lines[at]!, /^waits for a newer worker +notifications +the first +reason$/);
  assert.match(
    lines[at + 1]!,
    /^billing +2 +1 +notification 1 .*has version 3, and this program knows/,
  );
  assert.match(
    await output(["consumers", "show", "billing"], context),
    /^ +1 +newer +0 +when a newer worker comes /m,
  );
});
