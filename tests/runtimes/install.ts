/**
 * Installs the runtimes that the tests also run on, in the versions of versions.json, below .hark/runtimes.
 *
 *     deno task runtimes
 *
 * @module
 */

import { fromFileUrl } from "../harness/files.ts";
import versions from "./versions.json" with { type: "json" };

/** A runtime by its name in versions.json. */
export type Runtime = keyof typeof versions;

/** All of them. */
export const runtimes = Object.keys(versions) as Runtime[];

const folder = fromFileUrl(new URL("../../.hark/runtimes/", import.meta.url));

/** The path of a runtime's program, also if it is not installed. */
export function programOf(runtime: Runtime): string {
  return `${folder}node_modules/${runtime}/bin/${runtime.replace(/\d+$/, "")}`;
}

/** The version that is installed. Undefined if it is another one, or none. */
export async function installed(runtime: Runtime): Promise<string | undefined> {
  const wanted = packageOf(runtime)?.replace(/^.*@/, "");
  try {
    const { stdout } = await new Deno.Command(programOf(runtime), {
      args: ["--version"],
      stdin: "null",
    }).output();
    const version = new TextDecoder().decode(stdout).trim().replace(/^v/, "");
    return version === wanted ? version : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The package that has the program for this machine. Undefined if there is none. */
function packageOf(runtime: Runtime): string | undefined {
  const machine = `${Deno.build.os}-${Deno.build.arch}`;
  return (versions[runtime] as Readonly<Record<string, string>>)[machine];
}

async function install(): Promise<number> {
  const missing = [];
  for (const one of runtimes) if (await installed(one) === undefined) missing.push(one);
  if (missing.length === 0) {
    console.log("all are installed");
    return 0;
  }
  const dependencies = Object.fromEntries(
    runtimes.flatMap((one) => packageOf(one) === undefined ? [] : [[one, packageOf(one)!]]),
  );
  if (Object.keys(dependencies).length === 0) {
    console.log(
      `there are none for ${Deno.build.os} on ${Deno.build.arch}: their tests are left out`,
    );
    return 0;
  }
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}package.json`, JSON.stringify({ dependencies }));
  const { code } = await new Deno.Command("deno", {
    args: ["install", "--quiet", "--no-lock", "--node-modules-dir=auto"],
    cwd: folder,
  }).output();
  if (code !== 0) return code;
  for (const one of Object.keys(dependencies) as Runtime[]) {
    console.log(`${one}: ${await installed(one) ?? "could not be installed"}`);
  }
  return 0;
}

if (import.meta.main) Deno.exit(await install());
