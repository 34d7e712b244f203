/**
 * Runs a bench by its name, on the server of DATABASE_URL or on a throwaway one.
 *
 *     deno task bench [name] [--help | its flags]
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };
import { TextLineStream } from "./workers/lines.ts";

interface Bench {
  /** What it measures. */
  readonly about: string;
  /** Whether it starts workers as separate processes. */
  readonly spawns: boolean;
  /** A program that it runs on a server of its own; it is given none. */
  readonly runs?: string;
  /** Whether it opens pages in a browser, which keeps its profile in .hark/. */
  readonly browses?: boolean;
  /** Whether it needs no server. */
  readonly alone?: boolean;
}

const benches: Readonly<Record<string, Bench>> = {
  publish: {
    about: "Publishing, one notification a transaction, by 1 to 64 clients, while a consumer runs",
    spawns: true,
  },
  instructions: {
    about: "Machine instructions of one publish, by callgrind",
    spawns: false,
    runs: "valgrind",
  },
  batch: { about: "Publishing 1,000 notifications at a time", spawns: false },
  replay: {
    about: "Replay after an absence, compared with a plain SELECT and the peers",
    spawns: true,
  },
  live: { about: "CPU time that a notification costs a live reader", spawns: true },
  latency: { about: "Latency from the publishing call to the handler", spawns: true },
  fanout: { about: "Up to 100 consumers of one channel: time, writes and WAL", spawns: true },
  fair: {
    about: "One tenant's burst beside nine others, with keys in turn, and what turns cost",
    spawns: false,
  },
  growth: { about: "Whether any cost grows with the log, up to 10 million rows", spawns: true },
  marks: {
    about: "Marks a day at 1, 100 and 1,000 notifications a second, before and after thinning",
    spawns: false,
  },
  relay: {
    about: "The relay to NATS, beside NATS's own client; needs a NATS server",
    spawns: false,
  },
  webhooks: {
    about: "A relay to webhooks of 1,000 parties, of which some hang and some fail",
    spawns: false,
  },
  replica: {
    about:
      "A replay, hark tail, subscriptions and streams on a standby: what they cost the primary",
    spawns: true,
    runs: "cat",
  },
  rare: {
    about: "A channel of one notification in 100,000, read from the beginning",
    spawns: true,
  },
  look: { about: "Looking at a log of millions: hark log list, hark log show", spawns: false },
  streams: {
    about: "1,000 browsers of one process: from commit to socket, memory, connections",
    spawns: true,
  },
  dashboard: {
    about: "The dashboard's screens on a large database, and what an open page costs it",
    spawns: true,
    browses: true,
  },
  clean: { about: "Removing half of the log while clients publish", spawns: false },
  writer: { about: "What watching a table costs its writers", spawns: false },
  idle: { about: "What an idle worker asks of the server", spawns: true },
  telemetry: { about: "What traces and metrics cost publishing and replaying", spawns: true },
  kit: { about: "How long a test of a consumer takes with the test kit", spawns: true },
  size: { about: "What a program loads of each export, in bytes", spawns: true, alone: true },
  drains: {
    about: "Eight drains at once over two partitions: when those return that get none",
    spawns: false,
  },
  startup: { about: "How long a hark command takes, and importing each module", spawns: true },
  failover: {
    about: "How long until another worker takes over after a worker is lost",
    spawns: true,
  },
  memory: { about: "A worker with a long backlog and a slow handler", spawns: true },
  flatness: { about: "A steady rate while a transaction stays open elsewhere", spawns: false },
};

async function main([first, ...rest]: string[]): Promise<number> {
  if (first === "--help" || first === "-h") {
    console.log("deno task bench [name] [--help | its flags]; without a name: replay\n");
    for (const [name, { about }] of Object.entries(benches)) {
      console.log(`  ${name.padEnd(14)}${about}`);
    }
    console.log("\nThe server is the one that DATABASE_URL names, or a throwaway one.");
    return 0;
  }
  const [name, args] = first === undefined || first.startsWith("-")
    ? ["replay", [first, ...rest].filter((arg) => arg !== undefined)]
    : [first, rest];
  const bench = benches[name];
  if (bench === undefined) {
    console.error(
      `bench: there is no bench "${name}". Give one of: ${Object.keys(benches).join(", ")}`,
    );
    return 2;
  }
  const script = new URL(`./${name}.ts`, import.meta.url);
  if (args.includes("--help")) {
    const text = await Deno.readTextFile(script);
    const comment = text.slice(0, text.indexOf("@module")).replaceAll(/^\/?[ *]+/gm, "");
    console.log(comment.trim());
    return 0;
  }
  if (bench.runs !== undefined || bench.alone) return await run(script.href, bench, "", args);
  const url = Deno.env.get("DATABASE_URL");
  if (url !== undefined && url !== "") return await run(script.href, bench, url, args);
  return await onThrowawayServer((url) => run(script.href, bench, url, args));
}

/** Starts a server in a process of its own and ends it afterwards. */
async function onThrowawayServer(work: (url: string) => Promise<number>): Promise<number> {
  const server = new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--quiet",
      "--lock=.hark/deno.lock",
      "-P=listen",
      "bench/server.ts",
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const lines = server.stdout.pipeThrough(new TextLineStream()).getReader();
  try {
    const { value: url } = await lines.read();
    if (url === undefined) return 1; // it has said why
    return await work(url);
  } finally {
    await server.stdin.close();
    await server.status;
  }
}

/** Runs one bench with no more permissions than it needs. */
async function run(
  script: string,
  { spawns, runs, browses }: Bench,
  url: string,
  args: readonly string[],
): Promise<number> {
  const rights = runs !== undefined
    ? [
      "-P=listen",
      `--allow-run=${
        [
          ...config.permissions.listen.run,
          runs,
          ...spawns ? [...config.permissions.bench.run, Deno.execPath()] : [],
        ].join(",")
      }`,
    ]
    : spawns
    ? [
      "-P=bench",
      `--allow-run=${
        [
          ...config.permissions.bench.run,
          Deno.execPath(),
          ...browses ? config.permissions.pictures.run : [],
        ].join(",")
      }`,
      ...browses ? ["--allow-write=.hark", "--allow-sys=hostname,homedir,uid"] : [],
    ]
    : ["-P=measure"];
  // A bench that starts a server may fetch one.
  const lock = runs === undefined ? "dev.lock" : ".hark/dev.lock";
  const picture = args.find((arg) => arg.startsWith("--svg="))?.slice(6) ??
    (args.includes("--svg") ? args[args.indexOf("--svg") + 1] : undefined);
  if (picture !== undefined) rights.push(`--allow-write=${picture}`);
  const { code } = await new Deno.Command("deno", {
    args: ["run", "--no-prompt", "--quiet", `--lock=${lock}`, ...rights, script, ...args],
    env: { DATABASE_URL: url },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn().status;
  return code;
}

// The terminal sends Ctrl-C to the bench as well. Wait for the bench, then stop the server in
// order.
Deno.addSignalListener("SIGINT", () => {});
Deno.exit(await main(Deno.args));
