/**
 * Locks between processes. The operating system frees a lock when its holder dies, however it dies.
 *
 * @module
 */

import { HarkError } from "../errors.ts";

/** A lock that is held until it is disposed. */
export interface Lock extends Disposable {
  /** Releases the lock. */
  [Symbol.dispose](): void;
}

/** Takes the lock at `path`, exclusively or shared, if it is free right now. */
export async function tryLock(path: string, kind: "alone" | "shared"): Promise<Lock | undefined> {
  const file = await Deno.open(path, { create: true, read: true, write: true, mode: 0o600 });
  try {
    if (await file.tryLock(kind === "alone")) return held(file);
  } catch (error) {
    file.close();
    throw error;
  }
  file.close();
  return undefined;
}

/**
 * Disposing unlocks explicitly, because closing the file is not enough. This process may be
 * starting a program at this moment. The new process then also has the file open until its program
 * runs, and would keep the lock.
 */
function held(file: Deno.FsFile): Lock {
  return {
    [Symbol.dispose]: () => {
      file.unlockSync();
      file.close();
    },
  };
}

/**
 * Takes the lock at `path`, waiting up to `deadline` ms for it. Rejects with `EMBEDDED` after that.
 */
export async function lock(
  path: string,
  kind: "alone" | "shared",
  deadline: number,
): Promise<Lock> {
  const end = performance.now() + deadline;
  for (;;) {
    const taken = await tryLock(path, kind);
    if (taken !== undefined) return taken;
    if (performance.now() > end) {
      throw new HarkError(
        "EMBEDDED",
        `another process has held the lock ${path} for ${deadline / 1000} s`,
        { remedy: "That process is starting or stopping the same server. Wait for it, or end it." },
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
