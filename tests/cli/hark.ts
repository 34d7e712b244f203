/**
 * The command line as a process of its own, with the rights of its task and no more.
 *
 * @module
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import config from "../../deno.json" with { type: "json" };
import { Child, type Ended, PROJECT, spawnDeno, type SpawnOptions } from "../harness/mod.ts";

/** How to run it. */
export interface HarkOptions extends SpawnOptions {
  /** DATABASE_URL; unset unless given. */
  readonly url?: string;
  /** Written to standard input, which is then closed. */
  readonly stdin?: string | ReadableStream<Uint8Array>;
}

const tasks: Readonly<Record<string, { readonly command: string }>> = config.tasks;

/**
 * The rights of the task that runs a command, as flags: its permission set, and what narrows that.
 * Help and the like get the smallest set.
 */
export function rightsOf(command: string): readonly string[] {
  const { command: line = "" } = tasks[command] ?? {};
  const flags = line.match(/(?<= )(?:-P|--allow|--ignore)\S+/g);
  return flags ?? ["-P=sql"];
}

/** Starts `hark` with these arguments. */
export function hark(args: readonly string[], options: HarkOptions = {}): Child {
  const { url = "", stdin, env, ...rest } = options;
  const permissions = rest.permissions ?? rightsOf(args[0] ?? "");
  const variables = { DATABASE_URL: url, ...env };
  if (stdin === undefined) {
    return spawnDeno(["cli.ts", ...args], { ...rest, permissions, env: variables });
  }
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--quiet", `--config=${join(PROJECT, "deno.json")}`],
      ...permissions,
      join(PROJECT, "cli.ts"),
      ...args,
    ],
    env: { NO_COLOR: "1", ...variables },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    ...(rest.cwd === undefined ? {} : { cwd: rest.cwd }),
  }).spawn();
  const input = typeof stdin === "string" ? new Blob([stdin]).stream() : stdin;
  // A program that has refused its arguments does not read.
  input.pipeTo(process.stdin).catch(() => {});
  return new Child(process);
}

/** Runs `hark` to its end. */
export async function ran(args: readonly string[], options: HarkOptions = {}): Promise<Ended> {
  await using child = hark(args, options);
  return await child.ended({ deadline: 40_000 });
}

/** Runs `hark`, which has to succeed, and gives what it wrote to standard output. */
export async function output(args: readonly string[], options: HarkOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await ran(args, options);
  assert.equal(code, 0, `hark ${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout;
}

/** The same as JSON. */
// deno-lint-ignore no-explicit-any -- a test knows what it asked for
export async function jsonOutput(args: readonly string[], options: HarkOptions = {}): Promise<any> {
  return JSON.parse(await output([...args, "--json"], options));
}

/** Runs `hark`, which has to refuse with this code and a sentence that matches, and no stack trace. */
export async function refused(
  args: readonly string[],
  code: number,
  sentence: RegExp,
  options: HarkOptions = {},
): Promise<void> {
  const ended = await ran(args, options);
  const what = `hark ${args.join(" ")}`;
  assert.match(ended.stderr, sentence, what);
  assert.match(ended.stderr, /^hark: /m, what);
  assert.doesNotMatch(ended.stderr, /^\s+at /m, `${what} shows a stack trace`);
  assert.equal(ended.code, code, `${what}: ${ended.stderr}`);
  assert.equal(ended.stdout, "", `${what} wrote to standard output`);
}

/** Runs things a few at a time. */
export async function fewAtATime<T>(
  items: readonly T[],
  run: (item: T) => Promise<void>,
): Promise<void> {
  const waiting = [...items];
  const work = async () => {
    for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await run(item);
  };
  // All of them end before the first failure is reported, or the next test would find them at work.
  const ended = await Promise.allSettled([work(), work(), work()]);
  for (const one of ended) if (one.status === "rejected") throw one.reason;
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
