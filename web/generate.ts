/**
 * Writes src/dashboard/web.json from the files of this folder: what browsers load for the dashboard.
 * JSR takes no assets, so they reach the program as one JSON file. `deno task check` fails if it is
 * stale.
 *
 *     deno task web
 *
 * @module
 */

const folder = new URL("./", import.meta.url);
const output = new URL("../src/dashboard/web.json", import.meta.url);

/** Scripts, as the browser loads them: modules, one file each. */
const scripts = ["page", "charts", "morph", "times"];
const others = ["page.css", "icon.svg"];

/** The text of the JSON file. */
export async function generateWeb(): Promise<string> {
  const files: Record<string, string> = {};
  for (const name of scripts) files[`${name}.js`] = await transpiled(`${name}.ts`);
  for (const name of others) files[name] = packed(await Deno.readTextFile(new URL(name, folder)));
  const bytes = new TextEncoder().encode(JSON.stringify(files));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 16);
  return `${JSON.stringify({ digest, files }, null, 2)}\n`;
}

/** Without comments, and without space that says nothing. */
function packed(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/\s+/g, " ")
    .replaceAll(/ ?([{};,>]) ?/g, "$1").replaceAll(": ", ":").replaceAll(";}", "}").trim();
}

async function transpiled(name: string): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("deno", {
    args: ["transpile", "--no-check", "--no-lock", new URL(name, folder).pathname],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder();
  if (code !== 0) throw new Error(text.decode(stderr));
  return text.decode(stdout)
    .replaceAll(/\/\*\*[\s\S]*?\*\/\n?|^\/\/\/.*\n/gm, "")
    .replaceAll(/^(import .*)\.ts";$/gm, '$1.js";')
    .trimStart();
}

if (import.meta.main) await Deno.writeTextFile(output, await generateWeb());
