import assert from "node:assert/strict";
import { test } from "../harness/mod.ts";
import { hark, jsonOutput, oneByOne, output, refused } from "./_support/hark.ts";

const never = /nothing is ever removed from the log\. To keep 30 days: hark retention set 30d$/m;

test("without a retention status, init and listen say that nothing is ever removed", async ({ url }) => {
  assert.match(await output(["status"], { url }), never);
  assert.match(await output(["init"], { url }), never);
  assert.match(await output(["retention"], { url }), never);
  assert.deepEqual(await jsonOutput(["retention"], { url }), []);
  await using child = hark(["listen", "examples/consumers/orders.ts"], { url });
  await child.line(never);
  child.kill("SIGINT");
  await child.ended();
  await output(["retention", "set", "30d"], { url });
  assert.doesNotMatch(await output(["init"], { url }), never);
});

test("hark retention sets, shows and unsets how long notifications are kept", async ({ url }) => {
  assert.equal(
    await output(["retention", "set", "30d"], { url }),
    "notifications are kept for 30d\n",
  );
  assert.equal(
    await output(["retention", "set", "1d12h", "--channel", "logs"], { url }),
    'notifications on "logs" are kept for 1d12h\n',
  );
  assert.deepEqual(
    await jsonOutput(["retention", "set", "forever", "--channel", "audit"], { url }),
    { channel: "audit", keep: null },
  );
  const shown = await output(["retention", "show"], { url });
  assert.equal(await output(["retention"], { url }), shown);
  assert.match(shown, /^channel +kept +last applied +removed$/m);
  assert.match(shown, /^all others +30d +never +0$/m);
  assert.match(shown, /^audit +for ever +- +0$/m);
  assert.match(shown, /^logs +1d12h +never +0$/m);
  assert.match(
    await output(["status"], { url }),
    /^retention +30d; "audit" for ever, "logs" 1d12h$/m,
  );
  assert.deepEqual(await jsonOutput(["retention", "unset", "--channel", "logs"], { url }), {
    channel: "logs",
    changed: true,
  });
  assert.equal(
    await output(["retention", "unset", "--channel", "logs"], { url }),
    'there was no setting for notifications on "logs"\n',
  );
});

test("hark retention refuses what it does not understand", async ({ url }) => {
  await oneByOne<[string[], RegExp]>([
    [["set"], /DURATION/],
    [["set", "30"], /DURATION is "30"\. Give 12h, 30d/],
    [["set", "0d"], /DURATION is "0d"/],
    [["set", "100001d"], /at\s+most\s+100000d/],
    [["set", "30d", "--channel", ""], /has no characters/],
    [["sett", "30d"], /does not take sett[^]*Did you mean `set`/],
  ], async ([args, sentence]) => await refused(["retention", ...args], 2, sentence, { url }));
});
