import assert from "node:assert/strict";
import { connect, notifyEach } from "../../mod.ts";
import { fromCloudEvent } from "../../src/cloudevents/mod.ts";
import { dedupeKeyOf, sha256 } from "../../src/dedupe_key.ts";
import { test } from "../harness/mod.ts";

test("with dedupe, events whose long ids have one ending are both published, each once", async ({ url }) => {
  await using db = await connect(url);
  const ending = `${"😀".repeat(120)}!`;
  const publish = async (start: string) => {
    const id = start + ending;
    const event = { specversion: "1.0", id, source: "/shop", type: "orders" };
    const [one] = await notifyEach(db, [fromCloudEvent(event, { dedupe: "1d" })]);
    return one!.isDuplicate;
  };
  assert.deepEqual([await publish("1"), await publish("2"), await publish("1")], [
    false,
    false,
    true,
  ]);
});

Deno.test("the hash of a long id is SHA-256, whatever its length", async () => {
  for (let length = 0; length < 300; length++) {
    const text = "aé😀".repeat(100).slice(0, length).toWellFormed();
    const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    assert.equal(sha256(text), new Uint8Array(hash).toHex(), `of ${length} characters`);
  }
  assert.equal(dedupeKeyOf("x".repeat(200)), "x".repeat(200), "what fits stays as it is");
});
