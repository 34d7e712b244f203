/**
 * Finds the PostgreSQL programs to run: the machine's own, or a copy from the npm registry.
 *
 * @module
 */

import { delimiter, join } from "node:path";
import { HarkError } from "../errors.ts";
import type { Account } from "./account.ts";
import { copyFromNpm, DEFAULT_RELEASE, releaseFor } from "./npm.ts";
import { runProgram } from "./run.ts";

/** The oldest major version of PostgreSQL that Hark supports. */
const OLDEST = 14;

/** A folder of PostgreSQL programs. */
export interface Binaries {
  /** The folder that holds `initdb`, `pg_ctl` and `postgres`. */
  readonly folder: string;
  /** The full version, for example `18.4`. */
  readonly version: string;
  /** The major version, for example 18. */
  readonly major: number;
}

/** The programs to look for. */
export interface Wanted {
  /** `system`, `npm`, or a folder. Undefined: look on the machine first, then use npm. */
  readonly source: string | undefined;
  /** The major version, or undefined for any from 14 on. */
  readonly major: number | undefined;
  /** An exact release of the npm package, for example `17.10.0-beta.17`. */
  readonly release: string | undefined;
}

/** The path of one of the programs. */
export function program(folder: string, name: "pg_ctl" | "initdb" | "postgres"): string {
  return join(folder, Deno.build.os === "windows" ? `${name}.exe` : name);
}

/**
 * Finds the programs. Rejects with `EMBEDDED` if no programs fit. The message says which were found
 * but not allowed, and what to install, allow or set.
 */
export async function findBinaries(wanted: Wanted, account: Account): Promise<Binaries> {
  const { source, major } = wanted;
  if (source !== undefined && source !== "system" && source !== "npm") {
    return await inFolder(source, wanted);
  }
  const refused: string[] = [];
  if (source === "system" || (source === undefined && wanted.release === undefined)) {
    for (const folder of await candidates()) {
      const found = await inspect(folder).catch((error) => {
        if (!(error instanceof Deno.errors.NotCapable)) return undefined;
        refused.push(program(folder, "pg_ctl"));
        return undefined;
      });
      if (found !== undefined && found.major >= OLDEST && found.major === (major ?? found.major)) {
        return found;
      }
    }
  }
  const may = refused.length === 0 ? "" : ` (found but not allowed: ${refused.join(", ")})`;
  if (source === "system") {
    throw new HarkError(
      "EMBEDDED",
      `no PostgreSQL ${major ?? `${OLDEST} or newer`} on this machine${may}`,
      {
        remedy: refused.length === 0
          ? "Install PostgreSQL, or set HARK_POSTGRES to npm or to the bin folder of a PostgreSQL."
          : `Allow it: --allow-run=${refused[0]}`,
      },
    );
  }
  const release = wanted.release ?? (major === undefined ? DEFAULT_RELEASE : releaseFor(major));
  try {
    const folder = join(await copyFromNpm(release, account), "bin");
    const found = await inspect(folder);
    if (found !== undefined) return found;
    throw new Error(`${folder} holds no pg_ctl`);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const refusedHere = error instanceof Deno.errors.NotCapable;
    throw new HarkError("EMBEDDED", `no PostgreSQL to run${may}: ${message.replace(/\.$/, "")}`, {
      cause: error,
      remedy: refusedHere
        ? "Give the permission that the message names."
        : `Install PostgreSQL ${
          major ?? `${OLDEST} or newer`
        }, or set HARK_POSTGRES to its bin folder.`,
    });
  }
}

/** The programs in the exact folder that the caller asked for. */
async function inFolder(folder: string, { major }: Wanted): Promise<Binaries> {
  const found = await inspect(folder).catch((error) => {
    throw new HarkError("EMBEDDED", `${program(folder, "pg_ctl")} does not run: ${error.message}`, {
      cause: error,
      remedy: `Allow it: --allow-read --allow-run=${program(folder, "pg_ctl")}`,
    });
  });
  if (found === undefined) {
    throw new HarkError("EMBEDDED", `${folder} does not hold initdb, pg_ctl and postgres`, {
      remedy: "Give the bin folder of a PostgreSQL server of version 14 or newer.",
    });
  }
  if (found.major < OLDEST || (major !== undefined && found.major !== major)) {
    throw new HarkError(
      "EMBEDDED",
      `${folder} holds PostgreSQL ${found.version}, but needed is ${major ?? `${OLDEST} or newer`}`,
      { remedy: "Give another folder, or leave HARK_POSTGRES unset." },
    );
  }
  return found;
}

/** Checks that a folder holds the three programs, and asks them for their version. */
async function inspect(folder: string): Promise<Binaries | undefined> {
  for (const name of ["initdb", "pg_ctl", "postgres"] as const) {
    const file = await Deno.stat(program(folder, name)).catch((error) => {
      if (error instanceof Deno.errors.NotCapable) throw error;
      return undefined;
    });
    if (file?.isFile !== true) return undefined;
  }
  const { code, stdout, stderr } = await runProgram(program(folder, "pg_ctl"), ["--version"], {});
  const version = /(\d+)(?:\.\d+|(?:beta|rc|devel)\d*)?/.exec(
    stdout.replace(/^.*\(PostgreSQL\)/, ""),
  );
  if (code !== 0 || version === null) {
    throw new Error(`${program(folder, "pg_ctl")} --version failed: ${stderr.trim()}`);
  }
  return { folder, version: version[0], major: Number(version[1]) };
}

/**
 * The folders to search: PATH first, then the places where packages install servers, newest version
 * first.
 */
async function candidates(): Promise<string[]> {
  const folders: string[] = [];
  const path = await Deno.permissions.query({ name: "env", variable: "PATH" });
  if (path.state === "granted") folders.push(...(Deno.env.get("PATH") ?? "").split(delimiter));
  else folders.push("/usr/local/bin", "/usr/bin");
  folders.push(
    ...await versionsIn("/usr/lib/postgresql", /^(\d+)$/, "bin"), // Debian, Ubuntu
    ...await versionsIn("/usr", /^pgsql-(\d+)$/, "bin"), // Red Hat, Fedora (PGDG)
    ...await versionsIn("/usr/libexec", /^postgresql(\d+)$/, ""), // Alpine
    ...await versionsIn("/opt/homebrew/opt", /^postgresql@(\d+)$/, "bin"),
    ...await versionsIn("/usr/local/opt", /^postgresql@(\d+)$/, "bin"), // Homebrew on Intel
    ...await versionsIn("/Applications/Postgres.app/Contents/Versions", /^(\d+)$/, "bin"),
    ...await versionsIn("C:\\Program Files\\PostgreSQL", /^(\d+)$/, "bin"),
  );
  return [...new Set(folders.filter((folder) => folder !== ""))];
}

async function versionsIn(parent: string, name: RegExp, below: string): Promise<string[]> {
  const found: [number, string][] = [];
  try {
    for await (const entry of Deno.readDir(parent)) {
      const match = name.exec(entry.name);
      if (match !== null) found.push([Number(match[1]), join(parent, entry.name, below)]);
    }
  } catch {
    return []; // missing, or not readable
  }
  return found.sort(([a], [b]) => b - a).map(([, folder]) => folder);
}
