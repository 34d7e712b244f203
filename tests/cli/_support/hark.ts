/**
 * The command line, within the test or as a process of its own with the rights of its task.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../../deno.json" with { type: "json" };
import { commands } from "../../../src/cli/main.ts";
import { type Child, type Ended, spawnDeno, type SpawnOptions } from "../../harness/mod.ts";
import { type Screen, Within } from "./within.ts";

/** How to run it. */
export interface HarkOptions extends SpawnOptions {
  /** DATABASE_URL; unset unless given. */
  readonly url?: string;
  /** Written to standard input, which is then closed. */
  readonly stdin?: string | ReadableStream<Uint8Array>;
}

/** How to run it to its end. */
export interface RunOptions extends HarkOptions, Screen {
  /**
   * Whether it runs within the test. Unless given: if the command runs no handlers and no server, and
   * no other option is about its process.
   */
  readonly here?: boolean;
}

/** Commands that take the whole process: handlers write to its output, servers belong to its folder. */
const ALONE: readonly string[] = ["listen", "dev"];

const tasks: Readonly<Record<string, { readonly command: string }>> = config.tasks;

/**
 * The rights of the task that runs a command, as flags: its permission set, and what narrows that.
 * Commands without a task of their own have the task `hark`. Help and the like get the smallest set.
 */
export function rightsOf(command: string): readonly string[] {
  // The task `check` is the project's own.
  const own = tasks[command]?.command ?? "";
  const line = command in commands && !own.includes(" cli.ts ") ? tasks.hark!.command : own;
  const flags = line.match(/(?<= )(?:-P|--allow|--ignore)\S+/g);
  return flags ?? ["-P=sql"];
}

/** Starts `hark` with these arguments, as a process with the rights of its task. */
export function hark(args: readonly string[], options: HarkOptions = {}): Child {
  const { url = "", env, permissions, ...spawning } = options;
  return spawnDeno(["cli.ts", ...args], {
    ...spawning,
    permissions: permissions ?? rightsOf(args[0] ?? ""),
    env: { DATABASE_URL: url, ...env },
  });
}

/** Runs `hark` to its end. */
export async function ran(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { here, terminal = false, variables = {}, closed = false, ...running } = options;
  const screen = { terminal, variables, closed };
  const { url = "", stdin, ...process } = running;
  const isHere = here ?? (!ALONE.includes(args[0] ?? "") && Object.keys(process).length === 0);
  await using command = isHere ? new Within(args, url, stdin, screen) : hark(args, running);
  return await command.ended({ deadline: 40_000 });
}

/** Runs `hark`, which has to succeed, and gives what it wrote to standard output. */
export async function output(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await ran(args, options);
  assert.equal(code, 0, `hark ${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout;
}

/** The same as JSON. */
// deno-lint-ignore no-explicit-any -- a test knows what it asked for
export async function jsonOutput(args: readonly string[], options: RunOptions = {}): Promise<any> {
  return JSON.parse(await output([...args, "--json"], options));
}

/** Runs `hark`, which has to refuse with this code and a sentence that matches, and no stack trace. */
export async function refused(
  args: readonly string[],
  code: number,
  sentence: RegExp,
  options: RunOptions = {},
): Promise<void> {
  const ended = await ran(args, options);
  const what = `hark ${args.join(" ")}`;
  assert.match(ended.stderr, sentence, what);
  assert.match(ended.stderr, /^hark: /m, what);
  assert.doesNotMatch(ended.stderr, /^\s+at /m, `${what} shows a stack trace`);
  assert.equal(ended.code, code, `${what}: ${ended.stderr}`);
  assert.equal(ended.stdout, "", `${what} wrote to standard output`);
}

/** Runs something with each of the items. */
export async function oneByOne<T>(
  items: readonly T[],
  run: (item: T) => Promise<void>,
): Promise<void> {
  for (const item of items) await run(item);
}

/** Writes modules into a folder of the project, where `@hark/postgres` can be imported by name. */
export async function writeModules(
  folder: string,
  modules: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [name, text] of Object.entries(modules)) {
    await Deno.writeTextFile(join(folder, name), text);
  }
}

/** A module that exports a consumer as options; its handler prints `<id> <payload>`. */
export function printer(id: string, channel = "orders", more = ""): string {
  return `export const ${id.replaceAll("-", "_")} = {
    id: "${id}", channels: "${channel}", ${more}
    handle: (n) => console.log("${id}", n.payloadText, n.isReplay ? "replay" : "live"),
  };\n`;
}
