/**
 * A data folder and the operations of `pg_ctl` on it: create, start, stop, kill.
 *
 * `pg_ctl` is the only program that Hark runs, also for `initdb`, so that one `--allow-run` path is
 * enough. It starts the server in a session of its own, which the terminal's Ctrl-C does not reach.
 * The process that started the server has to stop it in order.
 *
 * @module
 */

import { basename, dirname, join } from "node:path";
import { HarkError } from "../errors.ts";
import { type Account, exists, giveTo, makeFolder } from "./account.ts";
import { type Binaries, program } from "./binaries.ts";
import { OWNER } from "./connect.ts";
import { type Outcome, runProgram } from "./run.ts";

/**
 * How long `pg_ctl` waits for a start, in seconds. After a crash the server may have to replay much
 * write-ahead log.
 */
const START_SECONDS = 120;

/** After this many ms without a new file, no initdb can still be creating the data folder. */
const UNFINISHED_MS = 60_000;

/** How to stop a server; see {@linkcode EmbeddedServer.stop}. */
export type StopMode = "fast" | "immediate" | "smart";

/** A data folder, the programs that fit it, and the user that owns it. */
export interface Cluster {
  readonly dataDir: string;
  readonly binaries: Binaries;
  readonly account: Account;
}

/**
 * The contents of `postmaster.pid`. The file exists while a server runs, and after a server was
 * killed.
 */
export interface Postmaster {
  readonly pid: number;
  readonly port: number;
}

/** The path of the server's log. */
export function logOf({ dataDir }: Cluster): string {
  return join(dataDir, "server.log");
}

/** Reads `postmaster.pid`; undefined if the file does not exist. */
export async function readPostmaster(dataDir: string): Promise<Postmaster | undefined> {
  const text = await Deno.readTextFile(join(dataDir, "postmaster.pid")).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const lines = text.split("\n");
  return { pid: Number(lines[0]), port: Number(lines[3]) || 0 };
}

/**
 * Removes the `postmaster.pid` of a server that is gone.
 *
 * The server removes it itself unless a process with that number exists. In many containers,
 * process 1 does not collect its children, so the killed server stays a zombie and its number
 * exists for ever. Since PostgreSQL 12 the shared memory still keeps two servers from running on
 * one folder: the server finds it through the data folder and not through this file.
 */
export async function removePostmaster(dataDir: string): Promise<void> {
  await Deno.remove(join(dataDir, "postmaster.pid")).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}

/**
 * Creates the data folder under another name, and renames it when it is complete. It calls
 * `prepare` with that other name before the rename. `scratch` skips the flush to disk.
 */
export async function makeCluster(
  cluster: Cluster,
  password: string,
  scratch: boolean,
  prepare: (unfinished: string) => Promise<void>,
): Promise<void> {
  const { dataDir, account, binaries } = cluster;
  // A unique name: if this process is killed, initdb goes on for a moment in the folder it was
  // given.
  const unfinished = `${dataDir}.unfinished-${crypto.randomUUID().slice(0, 8)}`;
  const passwordFile = `${unfinished}.password`;
  await removeUnfinished(dataDir);
  await makeFolder(account, unfinished);
  await giveTo(account, unfinished);
  try {
    await Deno.writeTextFile(passwordFile, `${password}\n`, { mode: 0o600 });
    await giveTo(account, passwordFile);
    const options = [
      `--username=${OWNER}`,
      `--pwfile=${quote(passwordFile)}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      ...(scratch ? ["--no-sync"] : []),
    ];
    let outcome: Outcome | undefined;
    for (const locale of localesFor(binaries.major)) {
      outcome = await runProgram(
        program(binaries.folder, "pg_ctl"),
        ["initdb", "--silent", "-D", unfinished, "-o", [...options, ...locale].join(" ")],
        account,
      );
      // A failed initdb empties the folder again, so the next locale starts afresh.
      if (outcome.code === 0) break;
    }
    if (outcome?.code !== 0) {
      throw new HarkError("EMBEDDED", `initdb failed in ${dataDir}: ${said(outcome)}`, {
        remedy: "Correct the cause, or use another folder or another HARK_POSTGRES.",
      });
    }
    await Deno.writeTextFile(
      join(unfinished, "postgresql.conf"),
      "\n# The settings of this start, written by Hark.\ninclude_if_exists = 'hark.conf'\n",
      { append: true },
    );
    await prepare(unfinished);
    // An empty folder is replaced. On a folder with content this fails, as it should.
    if (await exists(dataDir)) await Deno.remove(dataDir);
    await Deno.rename(unfinished, dataDir);
  } finally {
    await Deno.remove(passwordFile).catch(() => {});
    await Deno.remove(unfinished, { recursive: true }).catch(() => {});
  }
}

/**
 * Makes the data folder as a copy of another one, whose server is stopped, and renames it when it is
 * whole. The copy takes a tenth of the time of `initdb`.
 */
export async function copyCluster({ dataDir, account }: Cluster, from: string): Promise<void> {
  const unfinished = `${dataDir}.unfinished-${crypto.randomUUID().slice(0, 8)}`;
  try {
    await copyFolder(account, from, unfinished);
    await Deno.rename(unfinished, dataDir);
  } finally {
    await Deno.remove(unfinished, { recursive: true }).catch(() => {});
  }
}

async function copyFolder(account: Account, from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { mode: 0o700 });
  await giveTo(account, to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    const [source, target] = [join(from, name), join(to, name)];
    if (isDirectory) await copyFolder(account, source, target);
    else {
      await Deno.copyFile(source, target);
      await giveTo(account, target);
    }
  }
}

/**
 * Removes the unfinished folders of starts that were killed, once no initdb can be running in them.
 */
export async function removeUnfinished(dataDir: string): Promise<void> {
  const parent = dirname(dataDir);
  for await (const { name } of Deno.readDir(parent)) {
    if (!name.startsWith(`${basename(dataDir)}.unfinished-`)) continue;
    const path = join(parent, name);
    const { mtime } = await Deno.stat(path).catch(() => ({ mtime: null }));
    if (mtime === null || Date.now() - mtime.getTime() < UNFINISHED_MS) continue;
    await Deno.remove(path, { recursive: true }).catch(() => {});
  }
}

/**
 * Locales that sort text by code point and know Unicode's letters, if version and system allow it.
 */
function localesFor(major: number): string[][] {
  if (major >= 17) return [["--locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C"]];
  return [["--locale=C.UTF-8"], ["--locale=C"]];
}

/**
 * Writes the settings for the next start. The server reads them after postgresql.conf and before
 * the settings of ALTER SYSTEM.
 */
export async function writeSettings(
  { dataDir, account }: Cluster,
  settings: Readonly<Record<string, string>>,
): Promise<void> {
  const lines = Object.entries(settings).map(([name, value]) => {
    if (!/^[a-z_][a-z0-9_.]*$/i.test(name) || /[\r\n\0]/.test(value)) {
      throw new HarkError(
        "BAD_OPTION",
        `setting ${JSON.stringify({ [name]: value })} is not valid`,
        {
          remedy: "Give a PostgreSQL setting's name and its value on one line.",
        },
      );
    }
    return `${name} = '${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'\n`;
  });
  const path = join(dataDir, "hark.conf");
  await Deno.writeTextFile(path, lines.join(""), { mode: 0o600 });
  await giveTo(account, path);
}

/**
 * Starts the server and waits until it accepts connections. Returns false if another program took
 * its port in between. Rejects with `EMBEDDED` and the end of the server's log on any other
 * failure.
 */
export async function startCluster(cluster: Cluster): Promise<boolean> {
  const log = logOf(cluster);
  const before = (await Deno.stat(log).catch(() => ({ size: 0 }))).size;
  for (let attempt = 1;; attempt++) {
    const outcome = await runProgram(
      program(cluster.binaries.folder, "pg_ctl"),
      ["start", "--silent", "-w", "-t", String(START_SECONDS), "-D", cluster.dataDir, "-l", log],
      cluster.account,
      true,
    );
    if (outcome.code === 0) return true;
    const bytes = await Deno.readFile(log).catch(() => new Uint8Array());
    const wrote = new TextDecoder().decode(bytes.subarray(Math.min(before, bytes.length)));
    if (/could not bind|could not create any TCP/.test(wrote)) return false;
    // The children of a killed server end within moments, unless they are in the middle of a query.
    if (/shared memory block .* is still in use/.test(wrote) && attempt < 40) {
      await new Promise((resolve) => setTimeout(resolve, 250));
      continue;
    }
    const telling = /FATAL|PANIC|HINT|DETAIL|error|unrecognized|invalid/i;
    const why = wrote.split("\n").filter((line) => telling.test(line)).slice(-4).join("; ");
    throw new HarkError(
      "EMBEDDED",
      `the server in ${cluster.dataDir} did not start: ${why || said(outcome)}`,
      {
        remedy: "Correct the cause. The server's log is in the cause of this error.",
        cause: new Error(wrote),
      },
    );
  }
}

/** Stops the server and waits for it for up to `seconds`. Rejects with `EMBEDDED` after that. */
export async function stopCluster(
  cluster: Cluster,
  mode: StopMode,
  seconds: number,
): Promise<void> {
  const outcome = await runProgram(
    program(cluster.binaries.folder, "pg_ctl"),
    ["stop", "--silent", "-w", "-t", String(seconds), "-D", cluster.dataDir, "-m", mode],
    cluster.account,
  );
  if (outcome.code === 0 || await readPostmaster(cluster.dataDir) === undefined) return;
  throw new HarkError(
    "EMBEDDED",
    `the server in ${cluster.dataDir} did not stop (${mode}) in ${seconds} s: ${said(outcome)}`,
    {
      remedy: mode === "smart"
        ? "Close its clients, or stop it in the mode fast."
        : "Stop it in the mode immediate.",
    },
  );
}

/** Sends a signal to a process of the server. Returns false if there is no such process. */
export async function signalProcess(
  { binaries, account }: Cluster,
  signal: "KILL" | "QUIT",
  pid: number,
): Promise<boolean> {
  const args = ["kill", signal, String(pid)];
  return (await runProgram(program(binaries.folder, "pg_ctl"), args, account)).code === 0;
}

/** The output of a failed program, on one line. */
function said(outcome: Outcome | undefined): string {
  const text = (outcome?.stderr.trim() || outcome?.stdout.trim()) ?? "";
  return text.replaceAll(/\s*\n\s*/g, "; ") || `exit code ${outcome?.code}`;
}

/** Quotes a word for the shell to which `pg_ctl` passes initdb's options. */
function quote(word: string): string {
  return Deno.build.os === "windows" ? `"${word}"` : `'${word.replaceAll("'", `'\\''`)}'`;
}
