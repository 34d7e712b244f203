import assert from "node:assert/strict";
import { connect, Consumer, schedules, status } from "../../mod.ts";
import { test } from "../harness/mod.ts";
import { jsonOutput, output, ran, refused } from "./_support/hark.ts";

test("hark schedule adds, lists, foretells and removes", async ({ url, sql }) => {
  assert.match(await output(["schedule", "list"], { url }), /^there is no schedule; to make one: /);
  assert.match(
    await output([
      ...["schedule", "add", "report", "30 2 * * *", "reports", '{"kind":"sales"}'],
      ...["--key", "k", "--timezone", "Europe/Berlin", "--missed", "skip"],
    ], { url }),
    /^"report" publishes on "reports", next in .*: \d{4}-.*Z\n$/,
  );
  await sql("update hark.schedules set next_at = '2026-10-24 02:30 Europe/Berlin'");
  assert.match(
    await output(["schedule", "list"], { url }),
    /^schedule .*\nreport +30 2 \* \* \* +Europe\/Berlin +reports +skip +(in|now).* +never +-$/m,
  );
  assert.equal(
    await output(["schedule", "next", "report", "--count", "3"], { url }),
    "2026-10-24T00:30:00Z  2026-10-24 02:30:00 Europe/Berlin\n" +
      "2026-10-25T00:30:00Z  2026-10-25 02:30:00 Europe/Berlin\n" +
      "2026-10-26T01:30:00Z  2026-10-26 02:30:00 Europe/Berlin\n",
  );
  const [found] = await jsonOutput(["schedule", "list"], { url }) as Record<string, unknown>[];
  assert.deepEqual([found!.payload, found!.key], [{ kind: "sales" }, "k"]);
  assert.equal(await output(["schedule", "remove", "report"], { url }), '"report" is removed\n');
  const again = await ran(["schedule", "remove", "reprot", "--json"], { url });
  assert.deepEqual([again.code, JSON.parse(again.stdout)], [1, { name: "reprot", changed: false }]);
});

test("hark schedule refuses what is never due, before and after it connects", async ({ url }) => {
  await refused(["schedule", "add", "s", "0 3 * *", "c"], 2, /cron is "0 3 \* \*"/, { url });
  await refused(["schedule", "add", "s", "0 3 * * *", "c", "{"], 2, /JSON/, { url });
  await refused(["schedule", "next", "s"], 2, /there is no schedule "s"/, { url });
});

test("hark status says what is scheduled, what is late, and what cannot be published", async ({ url, sql, use }) => {
  assert.doesNotMatch(await output(["status"], { url }), /schedules/);
  await output(["schedule", "add", "a", "0 0 1 1 *", "c"], { url });
  assert.match(await output(["status"], { url }), /^schedules +1 schedule, the first is due in /m);
  await sql("update hark.schedules set next_at = now() - interval '1 hour'");
  assert.match(
    await output(["status"], { url }),
    /^schedules +1 schedule, the first was due 60 min ago: it seems that no worker runs/m,
  );
  const db = use(await connect(url));
  await sql("select hark.schedule('b', 'nonsense', 'UTC', now() - interval '1 s', 'c')");
  await new Consumer(db, { id: "x", channels: "x", handle() {} }).drain();
  assert.match(
    await output(["status"], { url }),
    /^schedules +2 schedules, .*; 1 schedule cannot be published: hark schedule list$/m,
  );
  assert.match(await output(["schedule", "list"], { url }), /^b +cron is "nonsense"/m);
  const nextAt = (await schedules(db))[0]!.nextAt!;
  assert.deepEqual((await status(db)).schedules, { count: 2, nextAt, problems: ["b"] });
});
