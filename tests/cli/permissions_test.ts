import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { commands } from "../../src/cli/main.ts";
import { partner } from "../handlers/_support/partner.ts";
import { PROJECT, scratch, test } from "../harness/mod.ts";
import { Nats, natsRuns } from "../harness/nats.ts";
import { staysWithin } from "./_support/audit.ts";
import { before, calls, lasting } from "./_support/calls.ts";

test("each command needs no more than its task's permission set", async ({ url, sql, t, use }) => {
  for (const statement of before) await sql(statement);
  await using made = await scratch();
  await using nats = natsRuns ? await Nats.open() : undefined;
  const stream = await nats?.stream({ subjects: undefined! });
  const all = calls(made.path, partner({ use }, () => new Response()).origin, stream);
  const left = Object.keys(commands).filter((name) =>
    !lasting.includes(name) && !all.some(({ command }) => command === name)
  );
  assert.deepEqual(left, [], "commands that are not called here");
  for (const { command, args, alone } of all) {
    const step = command === "watch" ? `${command} ${args[0]}` : command;
    await t.step(
      step,
      () => staysWithin(command, "cli.ts", [command, ...args], alone ? "" : url),
    );
  }
});

Deno.test("every task names its permission set, and no set grants all", () => {
  for (const [name, { command }] of Object.entries(config.tasks)) {
    if (name === "lock") continue; // runs no program
    assert.match(command, /^deno run (--no-prompt )?(--lock=\S+ )?-P=[\w-]+ /, name);
  }
  for (const [name, set] of Object.entries(config.permissions)) {
    const granted: Record<string, unknown> = set;
    assert(!("all" in granted) && granted.run !== true && granted.write !== true, name);
  }
});

Deno.test("workflows name only tasks and permission sets that exist", async () => {
  const folder = join(PROJECT, ".github", "workflows");
  for await (const { name } of Deno.readDir(folder)) {
    const text = await Deno.readTextFile(join(folder, name));
    for (const [, task] of text.matchAll(/deno task ([\w:-]+)/g)) {
      assert(task! in config.tasks, task!);
    }
    for (const [, set] of text.matchAll(/-P=([\w-]+)/g)) assert(set! in config.permissions, set!);
  }
});
