/**
 * Which operating-system user runs the server, and where that user can keep its files.
 *
 * PostgreSQL refuses to run as root. Under root the server therefore runs as an unprivileged user,
 * who cannot look below a home that is closed to others; files for a project there are kept below
 * {@linkcode SHARED_FOLDER} instead.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import { HarkError } from "../../errors.ts";

/** Where root keeps servers and binaries of projects that lie below a private folder. */
export const SHARED_FOLDER = "/var/tmp/hark";

/** The user the server runs as: `uid` and `gid` are absent when it is the user we are. */
export interface Account {
  readonly uid?: number;
  readonly gid?: number;
}

/**
 * The user to run a server as. `dataDir`, where it exists, decides: its owner has to be the one.
 * Rejects with `EMBEDDED` when we are root and the machine has no unprivileged user.
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
    // macOS gives nobody the id -2, which no call takes.
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
 * Where files meant for `path` really go: `path` itself, or a folder below {@linkcode SHARED_FOLDER}
 * when `account` cannot reach `path`. `own` says that the files belong to one project, which gives
 * them a folder named after it; without it they are shared by all projects.
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

/** Makes `path` and its missing parents, open to the server's user to pass through, not to list. */
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
    // mkdir's mode passes through the umask, which may be 077.
    if (account.uid !== undefined) await Deno.chmod(folder, mode);
  }
}

/** Gives `path` to the server's user. */
export async function giveTo(account: Account, path: string): Promise<void> {
  if (account.uid !== undefined) await Deno.chown(path, account.uid, account.gid ?? null);
}

/** Whether something lies at `path`. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Whether `account` may pass through `folder`; parts of it that do not exist yet are ours to make. */
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

/** Anyone may create names below /var/tmp: a folder there is used only if root made it. */
async function checkSharedFolder(): Promise<void> {
  await makeFolder({ uid: 0 }, SHARED_FOLDER);
  const { isDirectory, isSymlink, uid, mode } = await Deno.lstat(SHARED_FOLDER);
  if (!isDirectory || isSymlink || uid !== 0 || ((mode ?? 0) & 0o022) !== 0) {
    throw new HarkError("EMBEDDED", `${SHARED_FOLDER} is not root's own folder`, {
      remedy: "Remove it; it is made again.",
    });
  }
}
