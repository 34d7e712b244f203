/**
 * What a program uses of the machine, and whether the permission set of its task covers it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../../deno.json" with { type: "json" };
import { PROJECT, scratch, spawnDeno } from "../../harness/mod.ts";
import { permissionSet } from "./hark.ts";

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
    permissions: [`-P=${set}`],
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

/** Runs a task's command on a database, and fails if it used more than the set of its task. */
export async function staysWithin(
  task: string,
  script: string,
  args: string[],
  url: string,
): Promise<void> {
  const set = permissionSet(task);
  for (const used of await audited(set, script, args, url)) {
    // Deno 2.9 notes a write beside each read of a path where reading is allowed everywhere.
    if (used.permission === "write" && covers(set, { ...used, permission: "read" })) continue;
    assert(covers(set, used), `${task} used ${used.permission} ${used.value}, not in "${set}"`);
  }
}
