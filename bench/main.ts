/**
 * Runs a bench by its name: on the server of DATABASE_URL, or on a throwaway one.
 *
 *     deno task bench [replay | failover | memory | flatness] [--help | its flags]
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };
import { startEmbedded } from "../src/database/embedded/mod.ts";

interface Bench {
  /** What it measures. */
  readonly about: string;
  /** Whether it starts workers as processes of their own. */
  readonly spawns: boolean;
}

const benches: Readonly<Record<string, Bench>> = {
  replay: {
    about: "Replay after an absence, beside a plain SELECT of the same rows",
    spawns: false,
  },
  failover: {
    about: "How long until another worker takes over from one that is lost",
    spawns: true,
  },
  memory: { about: "A worker with a long backlog and a slow handler", spawns: true },
  flatness: { about: "A steady rate while a transaction stays open elsewhere", spawns: false },
};

async function main([first, ...rest]: string[]): Promise<number> {
  if (first === "--help" || first === "-h") {
    console.log("deno task bench [name] [--help | its flags]; without a name: replay\n");
    for (const [name, { about }] of Object.entries(benches)) {
      console.log(`  ${name.padEnd(10)}${about}`);
    }
    console.log("\nThe server is that of DATABASE_URL, or a throwaway one.");
    return 0;
  }
  const [name, args] = first === undefined || first.startsWith("-")
    ? ["replay", [first, ...rest].filter((arg) => arg !== undefined)]
    : [first, rest];
  const bench = benches[name];
  if (bench === undefined) {
    console.error(`bench: there is no "${name}"; there is ${Object.keys(benches).join(", ")}`);
    return 2;
  }
  const script = new URL(`./${name}.ts`, import.meta.url);
  if (args.includes("--help")) {
    const text = await Deno.readTextFile(script);
    const comment = text.slice(0, text.indexOf("@module")).replaceAll(/^\/?[ *]+/gm, "");
    console.log(comment.trim());
    return 0;
  }
  const url = Deno.env.get("DATABASE_URL");
  if (url !== undefined && url !== "") return await run(script.href, bench, url, args);
  await using server = await startEmbedded({ ephemeral: true });
  console.error(`PostgreSQL ${server.version}, a throwaway server on port ${server.port}`);
  return await run(script.href, bench, server.url, args);
}

/** Runs one with no more rights than it needs. */
async function run(
  script: string,
  { spawns }: Bench,
  url: string,
  args: readonly string[],
): Promise<number> {
  const rights = spawns
    ? ["-P=bench", `--allow-run=${[...config.permissions.bench.run, Deno.execPath()].join(",")}`]
    : ["-P=measure"];
  const { code } = await new Deno.Command("deno", {
    args: ["run", "--no-prompt", "--quiet", ...rights, script, ...args],
    env: { DATABASE_URL: url },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn().status;
  return code;
}

// The terminal sends Ctrl-C to the bench as well: wait for it, then stop the server in order.
Deno.addSignalListener("SIGINT", () => {});
Deno.exit(await main(Deno.args));
