/**
 * What a program uses of the machine, and whether the rights of its task cover it.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../../deno.json" with { type: "json" };
import { PROJECT, scratch, spawnDeno } from "../../harness/mod.ts";
import { rightsOf } from "./hark.ts";

/** One line of the audit. */
interface Used {
  readonly permission: string;
  readonly value: string;
}

/** What the driver looks at; where a set ignores the environment, it finds nothing there. */
const driver = /^(PG[A-Z_]+|USER|USERNAME|NODE_PG_FORCE_NATIVE)$/;

/** Which uses of a permission are granted. */
interface Granted {
  readonly allow: readonly string[];
  readonly all: boolean;
  readonly ignore: boolean;
}

/** What flags grant of a permission: a flag of the same kind replaces what the set has. */
function grantedBy(flags: readonly string[], permission: string): Granted {
  const flag = flags.find((one) => one.startsWith(`--allow-${permission}`));
  if (flag !== undefined) {
    const list = flag.split("=")[1];
    const ignore = flags.includes(`--ignore-${permission}`);
    return { allow: list?.split(",") ?? [], all: list === undefined, ignore };
  }
  const name = flags[0]!.slice("-P=".length);
  const set = (config.permissions as Record<string, Record<string, unknown>>)[name]!;
  const granted = set[permission];
  if (granted === true) return { allow: [], all: true, ignore: false };
  if (Array.isArray(granted)) return { allow: granted, all: false, ignore: false };
  const { allow = [], ignore = false } = (granted ?? {}) as Partial<Granted>;
  return { allow, all: false, ignore };
}

/** Whether flags grant a use. */
function covers(flags: readonly string[], { permission, value }: Used): boolean {
  const { allow, all, ignore } = grantedBy(flags, permission);
  if (all || ignore && driver.test(value)) return true;
  return allow.some((one) => {
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

/** Runs a task's command with its rights and gives what it used, all of which has to be granted. */
async function audited(
  rights: readonly string[],
  script: string,
  args: string[],
  url: string,
): Promise<Used[]> {
  await using folder = await scratch();
  const audit = join(folder.path, "audit.jsonl");
  await using child = spawnDeno([script, ...args], {
    permissions: ["--no-lock", ...rights], // the server may come from npm
    cwd: folder.path,
    env: {
      DATABASE_URL: url,
      DENO_AUDIT_PERMISSIONS: audit,
      HARK_WAKE_SECRET: `whsec_${btoa("a secret of at least 24 bytes")}`,
    },
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

/** Runs commands of `hark` that have the rights of one task, and fails if they used more. */
export async function stayWithin(task: string, commands: string[][], url: string): Promise<void> {
  const script = "tests/cli/_support/one_by_one.ts";
  await staysWithin(task, script, [JSON.stringify(commands)], url);
}

/** Runs a task's command on a database, and fails if it used more than its task's rights. */
export async function staysWithin(
  task: string,
  script: string,
  args: string[],
  url: string,
): Promise<void> {
  const rights = rightsOf(task);
  for (const used of await audited(rights, script, args, url)) {
    // Deno 2.9 notes a write beside each read of a path where reading is allowed everywhere.
    if (used.permission === "write" && covers(rights, { ...used, permission: "read" })) continue;
    assert(
      covers(rights, used),
      `${task} used ${used.permission} ${used.value}, not in ${rights.join(" ")}`,
    );
  }
}
