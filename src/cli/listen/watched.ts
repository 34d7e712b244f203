/**
 * `hark listen --watch`: runs consumers in threads, and starts them again when a file of their modules
 * has changed. A thread loads its modules anew, which this thread could not.
 *
 * @module
 */

import { dirname, relative } from "node:path";
import type { Database } from "../../database/database.ts";
import { exitCodeOf, exitCodes, sentenceOf } from "../exit_codes.ts";
import { refuse } from "../args/options.ts";
import { printError } from "../print/output.ts";
import { visible } from "../print/style.ts";
import { type Files, filesOf } from "./module_files.ts";
import type { Probes } from "./probes.ts";
import type { Known, Work } from "./thread_messages.ts";
import { Threads } from "./threads.ts";
import { printFailure, welcome } from "./welcome.ts";

/** How long the disk has to be quiet after a change, in ms: editors write a file in several steps. */
const quiet = 100;

/**
 * Runs consumers until the signal; gives the exit code.
 *
 * @param first Called when the consumers are known for the first time, before they run: says which
 * they are.
 */
export async function runWatched(
  work: Work,
  workers: number,
  db: Database,
  url: string,
  signal: AbortSignal,
  first: (found: readonly Known[]) => Promise<void>,
  probes?: Probes,
): Promise<number> {
  let prepare: typeof first | undefined = first;
  for (;;) {
    const files = await filesOf(work.modules);
    if (files.size === 0) {
      refuse("none of the modules is a file", "Leave --watch out: a URL is loaded as it is.");
    }
    // Before the modules are loaded, so that no change is missed.
    using change = new Change(work.modules, files);
    const ending = AbortSignal.any([signal, change.signal]);
    let code: number = exitCodes.ok;
    try {
      using threads = await Threads.begin(work, workers, ending);
      probes?.follow(threads);
      await (prepare ?? welcome)(threads.found);
      prepare = undefined;
      code = await threads.run(db, url, ending);
    } catch (error) {
      if (!ending.aborted) {
        await printFailure("the consumers did not start", sentenceOf(error));
        code = exitCodeOf(error);
      }
    }
    if (signal.aborted) return code;
    if (!change.signal.aborted) await printError("waiting for a change of a module");
    const changed = await change.made(signal);
    if (signal.aborted) return exitCodes.ok;
    await printError(`${changed.map(visible).join(", ")} changed: starting again`);
  }
}

/** The first change of files. */
class Change implements Disposable {
  readonly #places: readonly string[];
  readonly #before: Files;
  readonly #watcher: Deno.FsWatcher;
  readonly #made = new AbortController();
  #changed: readonly string[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(places: readonly string[], files: Files) {
    this.#places = places;
    this.#before = files;
    // Folders rather than files: many editors put a new file in the place of the old one.
    const folders = new Set([...files.keys()].map((path) => existing(dirname(path))));
    this.#watcher = Deno.watchFs([...folders], { recursive: false });
    void this.#watch();
    this.#look(); // for what changed before the watcher was there
  }

  /** Aborts when a file has changed. */
  get signal(): AbortSignal {
    return this.#made.signal;
  }

  /** Resolves with the files that have changed, relative to this folder, or when `until` aborts. */
  async made(until: AbortSignal): Promise<readonly string[]> {
    const either = AbortSignal.any([until, this.signal]);
    if (!either.aborted) {
      const over = Promise.withResolvers<void>();
      either.addEventListener("abort", () => over.resolve(), { once: true });
      await over.promise;
    }
    return this.#changed;
  }

  async #watch(): Promise<void> {
    for await (const { kind } of this.#watcher) {
      if (kind === "access") continue; // reading the files is no change
      this.#look();
    }
  }

  #look(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#compare(), quiet);
  }

  async #compare(): Promise<void> {
    const now = await filesOf(this.#places);
    const paths = new Set([...this.#before.keys(), ...now.keys()]);
    const changed = [...paths].filter((path) => this.#before.get(path) !== now.get(path));
    if (changed.length === 0 || this.#made.signal.aborted) return;
    this.#changed = changed.map((path) => relative(".", path));
    this.#made.abort();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#watcher.close();
  }
}

/** The folder, or the nearest one above it that exists. */
function existing(folder: string): string {
  try {
    if (Deno.statSync(folder).isDirectory) return folder;
  } catch {
    // It may be made later; then the folder above changes.
  }
  return dirname(folder) === folder ? folder : existing(dirname(folder));
}
