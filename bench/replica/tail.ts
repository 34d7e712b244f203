/**
 * Starts `hark tail`.
 *
 * @module
 */

import { hark } from "../hark.ts";
import { TextLineStream } from "../workers/lines.ts";

/** A notification that `hark tail` has printed. */
export interface Printed {
  readonly id: number;
  readonly payload: { readonly at: number };
}

/** `hark tail --json` of a channel, in a process of its own. Disposing of it ends it. */
export class Tail implements AsyncDisposable {
  /** What it has printed, in its order. */
  readonly printed: Printed[] = [];
  readonly #process: Deno.ChildProcess;
  readonly #reading: Promise<void>;

  /**
   * @param from The id to begin with.
   * @param onPrinted Called at once for each line.
   */
  constructor(
    channel: string,
    from: number,
    { url, replica }: { readonly url: string; readonly replica: string | undefined },
    onPrinted: (one: Printed) => void,
  ) {
    this.#process = new Deno.Command("deno", {
      args: [
        ...hark,
        ...["tail", channel, "--json", "--from", String(from), "--database-url", url],
        ...replica === undefined ? [] : ["--replica", replica],
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#reading = this.#read(this.#process.stdout, onPrinted);
  }

  async #read(
    output: ReadableStream<Uint8Array>,
    onPrinted: (one: Printed) => void,
  ): Promise<void> {
    for await (const line of output.pipeThrough(new TextLineStream())) {
      const one = JSON.parse(line);
      this.printed.push(one);
      onPrinted(one);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#reading;
    await this.#process.status;
  }
}
