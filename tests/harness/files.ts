/**
 * Folders for one test.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { dirname, join } from "node:path";
import { reachablePlace, serverAccount } from "../../src/embedded/account.ts";

/** The project's own folder. */
export const PROJECT: string = fileURLToPath(new URL("../../", import.meta.url));

/** The path of a file URL. */
export function fromFileUrl(url: URL): string {
  return fileURLToPath(url);
}

/** A folder that is removed at the end. */
export interface Scratch extends AsyncDisposable {
  /** Its path, absolute. */
  readonly path: string;
}

/**
 * Makes an empty folder below `.hark/`, the one place that tests may write to. `mode` is 0o755
 * unless given, so that a server under another user reaches what lies in it.
 */
export async function scratch(mode = 0o755): Promise<Scratch> {
  const parent = join(PROJECT, ".hark");
  await Deno.mkdir(parent, { recursive: true });
  const path = await Deno.makeTempDir({ dir: parent, prefix: "test-" });
  if (Deno.build.os !== "windows") {
    await Deno.chmod(parent, 0o755);
    await Deno.chmod(path, mode);
  }
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      // Where root's servers keep their data when the project lies below a private folder.
      const data = join(path, "data");
      const real = await reachablePlace(await serverAccount(data), data, true);
      if (real !== data) await Deno.remove(dirname(real), { recursive: true }).catch(() => {});
      await Deno.remove(path, { recursive: true });
    },
  };
}
