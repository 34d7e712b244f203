/**
 * Starts clients of streams.
 *
 * @module
 */

import { fromFileUrl } from "../../tests/harness/files.ts";
import { TextLineStream } from "../workers/lines.ts";

/** Clients in a process of their own: see clients.ts. */
export class Clients implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;

  constructor(port: number, path: string, count: number, reads: boolean) {
    this.#process = new Deno.Command("deno", {
      args: [
        "run",
        "--no-prompt",
        "--quiet",
        "--lock=dev.lock",
        "-P=measure",
        fromFileUrl(new URL("./clients.ts", import.meta.url)),
        ...[port, path, count, reads].map(String),
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#input = this.#process.stdin.getWriter();
    this.#lines = this.#process.stdout.pipeThrough(new TextLineStream()).getReader();
  }

  /** The next line that it prints. The first says that all are connected. */
  async line(): Promise<string> {
    return (await this.#lines.read()).value ?? "";
  }

  /** What has come since it was last asked: how many events, and how late, in ms. */
  async ask(): Promise<{ events: number; p50: number; p99: number }> {
    await this.#input.write(new TextEncoder().encode("?\n"));
    return JSON.parse(await this.line());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
  }
}
