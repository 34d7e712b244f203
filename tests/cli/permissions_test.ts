import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { commands } from "../../src/cli/main.ts";
import { partner } from "../handlers/_support/partner.ts";
import { PROJECT, scratch, test } from "../harness/mod.ts";
import { Nats, natsRuns } from "../harness/nats.ts";
import { stayWithin } from "./_support/audit.ts";
import { before, calls, lasting } from "./_support/calls.ts";
import { rightsOf } from "./_support/hark.ts";

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
  // Those that follow one another with the same rights run in one process.
  const together: { rights: string; to: string; commands: string[][] }[] = [];
  for (const { command, args, alone } of all) {
    const to = alone ? "" : url;
    const rights = rightsOf(command).join(" ");
    const last = together.at(-1);
    if (last?.rights === rights && last.to === to) last.commands.push([command, ...args]);
    else together.push({ rights, to, commands: [[command, ...args]] });
  }
  for (const { to, commands } of together) {
    const task = commands[0]![0]!;
    await t.step(task, () => stayWithin(task, commands, to));
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
