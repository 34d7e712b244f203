/**
 * Chooses the operating-system user that runs the server, and a place for that user's files.
 *
 * PostgreSQL refuses to run as root. Under root the server therefore runs as an unprivileged user,
 * which cannot look inside a home folder that is closed to other users. The files of a project in
 * such a folder are kept below {@linkcode SHARED_FOLDER} instead.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import { HarkError } from "../errors.ts";

/**
 * The folder for servers and binaries of projects in a private folder, if root runs the program.
 */
export const SHARED_FOLDER = "/var/tmp/hark";

/** The user that runs the server. `uid` and `gid` are absent if it is the current user. */
export interface Account {
  readonly uid?: number;
  readonly gid?: number;
}

/**
 * Chooses the user to run a server as. If `dataDir` exists, its owner must be that user. Rejects
 * with `EMBEDDED` if the current user is root and the machine has no unprivileged user.
 */
export async function serverAccount(dataDir: string): Promise<Account> {
  if (Deno.build.os === "windows" || Deno.uid() !== 0) return {};
  const owner = await Deno.stat(dataDir).catch(() => null);
  if (owner !== null && owner.uid !== null && owner.gid !== null && owner.uid > 0) {
    return { uid: owner.uid, gid: owner.gid };
  }
  const users = new Map<string, Account>();
  const passwd = await Deno.readTextFile("/etc/passwd").catch(() => "");
  for (const line of passwd.split("\n")) {
    const [name, , uid, gid] = line.split(":");
    // On macOS the user "nobody" has the id -2, which no call accepts.
    if (name !== undefined && Number(uid) > 0 && Number(gid) > 0) {
      users.set(name, { uid: Number(uid), gid: Number(gid) });
    }
  }
  for (const name of ["postgres", "_postgres", "nobody", "daemon"]) {
    const account = users.get(name);
    if (account !== undefined) return account;
  }
  throw new HarkError("EMBEDDED", "PostgreSQL does not run as root, and no other user was found", {
    remedy: "Run as an ordinary user, or add one: useradd --system postgres",
  });
}

/**
 * Returns the place for files that are meant for `path`: `path` itself, or a folder below
 * {@linkcode SHARED_FOLDER} if `account` cannot reach `path`. With `own` the files belong to one
 * project, and the folder is named after that project. Without it all projects share them.
 */
export async function reachablePlace(
  account: Account,
  path: string,
  own: boolean,
): Promise<string> {
  const wanted = resolve(path);
  if (account.uid === undefined || await canReach(account, dirname(wanted))) return wanted;
  await checkSharedFolder();
  if (!own) return join(SHARED_FOLDER, basename(wanted));
  const digest = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(dirname(wanted))),
  );
  return join(SHARED_FOLDER, digest.toHex().slice(0, 12), basename(wanted));
}

/**
 * Creates `path` and its missing parents. The server's user may pass through them, but not list
 * them.
 */
export async function makeFolder(account: Account, path: string): Promise<void> {
  const missing: string[] = [];
  for (let at = resolve(path); !(await exists(at)); at = dirname(at)) missing.unshift(at);
  for (const folder of missing) {
    const mode = account.uid === undefined ? 0o700 : 0o711;
    try {
      await Deno.mkdir(folder, { mode });
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) continue;
      throw error;
    }
    // The umask, which may be 077, restricts the mode that mkdir is given.
    if (account.uid !== undefined) await Deno.chmod(folder, mode);
  }
}

/** Makes the server's user the owner of `path`. */
export async function giveTo(account: Account, path: string): Promise<void> {
  if (account.uid !== undefined) await Deno.chown(path, account.uid, account.gid ?? null);
}

/** Whether `path` exists. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Whether `account` may pass through `folder`. Missing parts do not count, because this program
 * will create them.
 */
async function canReach(account: Account, folder: string): Promise<boolean> {
  let at = folder;
  while (!(await exists(at))) at = dirname(at);
  at = await Deno.realPath(at);
  for (;;) {
    const { mode, uid, gid } = await Deno.stat(at);
    const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
    if (((mode ?? 0) & bit) === 0) return false;
    if (at === dirname(at)) return true;
    at = dirname(at);
  }
}

/**
 * Checks {@linkcode SHARED_FOLDER}. Any user may create names in /var/tmp, so the folder is used
 * only if root created it.
 */
async function checkSharedFolder(): Promise<void> {
  await makeFolder({ uid: 0 }, SHARED_FOLDER);
  const { isDirectory, isSymlink, uid, mode } = await Deno.lstat(SHARED_FOLDER);
  if (!isDirectory || isSymlink || uid !== 0 || ((mode ?? 0) & 0o022) !== 0) {
    throw new HarkError("EMBEDDED", `${SHARED_FOLDER} does not belong to root alone`, {
      remedy: "Remove it. Hark creates it again.",
    });
  }
}
