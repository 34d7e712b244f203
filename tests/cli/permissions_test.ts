import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { PROJECT, scratch, spawnDeno, test } from "../harness/mod.ts";
import { permissionSet } from "./_support/hark.ts";

/** One line of the audit. */
interface Used {
  readonly permission: string;
  readonly value: string;
}

/** What the driver looks at; where a set ignores the environment, it finds nothing there. */
const driver = /^(PG[A-Z_]+|USER|USERNAME|NODE_PG_FORCE_NATIVE)$/;

/** A set of deno.json, and whether it covers a use. */
function covers(name: string, { permission, value }: Used): boolean {
  const set = (config.permissions as Record<string, Record<string, unknown>>)[name]!;
  const granted = set[permission];
  if (granted === true) return true;
  const { allow, ignore } = granted !== null && typeof granted === "object" &&
      !Array.isArray(granted)
    ? granted as { allow?: string[]; ignore?: boolean }
    : { allow: granted as string[] | undefined, ignore: false };
  if (ignore === true && driver.test(value)) return true;
  const allowed = allow ?? [];
  return allowed.some((one: string) => {
    switch (permission) {
      case "env":
        return one.endsWith("*") ? value.startsWith(one.slice(0, -1)) : one === value;
      case "net":
        return value === one || value.startsWith(`${one}:`);
      case "read":
      case "write":
      case "run": {
        const path = join(PROJECT, one);
        const place = one.startsWith("/") ? one : path;
        return value === place || value.startsWith(`${place}/`);
      }
      default:
        return one === value;
    }
  });
}

/** Runs a task's command with its set and gives what it used, all of which has to be in the set. */
async function audited(set: string, script: string, args: string[], url: string): Promise<Used[]> {
  await using folder = await scratch();
  const audit = join(folder.path, "audit.jsonl");
  await using child = spawnDeno([script, ...args], {
    permissions: ["--no-lock", `-P=${set}`], // the server may come from npm
    cwd: folder.path,
    env: { DATABASE_URL: url, DENO_AUDIT_PERMISSIONS: audit },
  });
  if (args[0] === "dev" || (args[0] === "listen" && url === "")) {
    await child.line(/^Ctrl-C ends it/, { deadline: 60_000 });
    child.kill("SIGINT");
  }
  const { code, stderr } = await child.ended({ deadline: 90_000 });
  assert.equal(code, 0, `${script} ${args.join(" ")}: ${stderr}`);
  assert.doesNotMatch(stderr, /Requires|--allow-|NotCapable/);
  const text = await Deno.readTextFile(audit).catch(() => "");
  return text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Used);
}

test(
  "each command needs no more than its task's permission set",
  { timeout: 180_000 },
  async (c) => {
    const { url, sql, t } = c;
    await sql("select hark.register('r', array['orders'])");
    await sql("select hark.notify('orders', '{}')");
    await sql("create table users (id integer primary key)");
    const runs: [string, string[], string][] = [
      ["cli.ts", ["sql"], ""],
      ["cli.ts", ["init"], url],
      ["cli.ts", ["notify", "orders"], url],
      ["cli.ts", ["tail", "--from", "beginning", "--limit", "1"], url],
      ["cli.ts", ["status"], url],
      ["cli.ts", ["watch", "add", "public.users", "--snapshot"], url],
      ["cli.ts", ["watch", "list"], url],
      ["cli.ts", ["watch", "sql", "public.users"], url],
      ["cli.ts", ["watch", "remove", "public.users"], url],
      ["cli.ts", ["consumers", "list"], url],
      ["cli.ts", ["dead", "list"], url],
      ["cli.ts", ["seek", "r", "now"], url],
      ["cli.ts", ["replay", "r", "--from", "1"], url],
      ["cli.ts", ["pause", "r"], url],
      ["cli.ts", ["resume", "r"], url],
      ["cli.ts", ["cleanup", "--days", "1"], url],
      ["cli.ts", ["listen", join(PROJECT, "examples/consumers/orders.ts"), "--drain"], url],
      ["cli.ts", ["listen"], ""],
      ["cli.ts", ["dev"], ""],
      ["examples/demo.ts", [], ""],
      ["cli.ts", ["uninstall", "--yes"], url],
    ];
    for (const [script, args, to] of runs) {
      const task = args[0] ?? "demo";
      await t.step(
        `${task}${args[0] === "listen" && to === "" ? ", with its own server" : ""}`,
        async () => {
          const set = permissionSet(task);
          for (const used of await audited(set, script, args, to)) {
            // Deno 2.9 notes a write beside each read of a path where reading is allowed everywhere.
            if (
              used.permission === "write" && covers(set, { ...used, permission: "read" })
            ) continue;
            assert(
              covers(set, used),
              `${task} used ${used.permission} ${used.value}, not in "${set}"`,
            );
          }
        },
      );
    }
  },
);

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
