/**
 * The command line's own help pages and grammar, in this process.
 *
 * @module
 */

import { parse } from "@optique/core/parser";
import { asGrammar, commands, main, program } from "../../src/cli/main.ts";

/** The commands, with their subcommands, as their usage names them: "init", "watch add", … */
export function commandNames(): string[] {
  return Object.entries(commands).flatMap(([name, { usage }]) => {
    const inner = subcommands(usage).filter((one) => one !== name);
    return [name, ...inner.map((one) => `${name} ${one}`)];
  });
}

function subcommands(usage: unknown): string[] {
  if (Array.isArray(usage)) return [...new Set(usage.flatMap(subcommands))];
  if (usage === null || typeof usage !== "object") return [];
  const { type, name, terms, hidden } = usage as {
    type?: string;
    name?: string;
    terms?: unknown;
    hidden?: boolean;
  };
  if (hidden === true) return [];
  return type === "command" ? [name!, ...subcommands(terms)] : subcommands(terms);
}

/** What `hark COMMAND --help` prints. */
export async function helpOf(command: string): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  const writeSync = (bytes: Uint8Array) => {
    text += decoder.decode(bytes, { stream: true });
    return bytes.length;
  };
  const output = {
    writeSync,
    write: (bytes: Uint8Array) => Promise.resolve(writeSync(bytes)),
    isTerminal: () => false,
  };
  const silent = () => {};
  const { consoleSize } = Deno;
  Deno.consoleSize = () => ({ columns: 100, rows: 50 }); // the same on every terminal
  try {
    await main([...command.split(" ").filter((word) => word !== ""), "--help"], {
      stdin: { readable: new Blob([]).stream(), isTerminal: () => false },
      stdout: output,
      stderr: output,
      variable: () => undefined,
      addSignalListener: silent,
      removeSignalListener: silent,
      exit: (code) => {
        throw new Error(`help ended with ${code}`);
      },
    });
  } finally {
    Deno.consoleSize = consoleSize;
  }
  return text.split("\n").map((line) => line.trimEnd()).join("\n").trimEnd();
}

/** Why the command line does not take these arguments; undefined where it does. */
export function refusal(args: readonly string[]): string | undefined {
  if (args.length === 0 || args.includes("--help") || args[0] === "--version") return undefined;
  if (args[0] === "completion") return undefined; // the runner's own command
  const result = parse(program(args[0]), [...asGrammar(args)]);
  return result.success ? undefined : JSON.stringify(result.error);
}

/** The arguments of `hark` in a line of shell, by whatever way it is run; undefined where it is another program. */
export function harkArguments(line: string): string[] | undefined {
  const words = wordsOf(line.trim().replace(/^\$ /, ""));
  while (/^[A-Z_]+=/.test(words[0] ?? "")) words.shift();
  if (words[0] === "hark") return words.slice(1);
  if (words[0] !== "deno") return undefined;
  if (words[1] === "task" && words[2] === "hark") return words.slice(3);
  if (words[1] === "task" && Object.hasOwn(commands, words[2] ?? "")) return words.slice(2);
  const at = words.findIndex((word) => /(^|\/)cli(\.ts)?$/.test(word));
  return words[1] === "run" && at > 0 ? words.slice(at + 1) : undefined;
}

/** The words of a line up to a pipe, a redirection or a comment. */
function wordsOf(line: string): string[] {
  const words: string[] = [];
  for (const [word] of line.matchAll(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g)) {
    if (/^([|<>&;]|\d>)/.test(word) || word.startsWith("#")) break;
    words.push(word.replaceAll(/'([^']*)'|"([^"]*)"/g, (_, one, two) => one ?? two));
  }
  return words;
}
