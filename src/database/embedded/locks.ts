/**
 * Locks between processes: the operating system frees them when their holder dies, however it dies.
 *
 * @module
 */

import { HarkError } from "../../errors.ts";

/** A lock that is held until it is disposed of. */
export interface Lock extends Disposable {
  /** Lets go. */
  [Symbol.dispose](): void;
}

/** Takes the lock at `path`, alone or with other sharers, if it is free right now. */
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
 * To close the file is not enough: a program that is being started at this moment, by whatever part of the process, has
 * it open, too, and with it the lock, until it runs.
 */
function held(file: Deno.FsFile): Lock {
  return {
    [Symbol.dispose]: () => {
      file.unlockSync();
      file.close();
    },
  };
}

/** Takes the lock at `path`, waiting for it up to `deadline` ms. Rejects with `EMBEDDED` after that. */
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
        { remedy: "It is starting or stopping the same server; wait for it, or end it." },
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
