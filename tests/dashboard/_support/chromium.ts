/**
 * A real browser, driven over its own protocol. No package in between: those that drive browsers
 * read what Deno gives to `--allow-all` alone.
 *
 * @module
 */

import { join } from "node:path";
import { scratch, until } from "../../harness/mod.ts";

/** Where the browser may be: as Debian's package `chromium` has it, or Google's. */
const places = ["/usr/bin/chromium", "/usr/bin/google-chrome"];

/** Where it is; undefined on a machine without one. */
export const chromiumPath: string | undefined = places.find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
});

/** Without what needs a screen, a network or a user. */
const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--remote-debugging-port=0",
];

// deno-lint-ignore no-explicit-any -- answers of the protocol
type Answer = any;

/** A running browser. */
export class Chromium implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, PromiseWithResolvers<Answer>>();
  readonly #heard = new Set<(session: string, method: string, params: Answer) => void>();
  readonly #folder: AsyncDisposable;
  #number = 0;

  private constructor(process: Deno.ChildProcess, socket: WebSocket, folder: AsyncDisposable) {
    this.#process = process;
    this.#socket = socket;
    this.#folder = folder;
    socket.addEventListener("message", ({ data }) => {
      const { id, result, error, method, params, sessionId } = JSON.parse(data);
      if (id === undefined) this.#heard.forEach((heard) => heard(sessionId, method, params));
      else if (error === undefined) this.#waiting.get(id)?.resolve(result);
      else this.#waiting.get(id)?.reject(new Error(`the browser: ${error.message}`));
      this.#waiting.delete(id);
    });
  }

  /** Starts one with an empty profile, which is removed at the end. */
  static async start(): Promise<Chromium> {
    const folder = await scratch();
    const profile = join(folder.path, "profile");
    const process = new Deno.Command(chromiumPath!, {
      args: [...flags, `--user-data-dir=${profile}`, "about:blank"],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const found = await until(async () => {
      const text = await Deno.readTextFile(join(profile, "DevToolsActivePort")).catch(() => "");
      return text.includes("\n/") ? text.trim().split("\n") : undefined;
    }, { deadline: 30_000, what: "the browser to listen" });
    const socket = new WebSocket(`ws://127.0.0.1:${found!.join("")}`);
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve, { once: true });
      socket.addEventListener("error", reject, { once: true });
    });
    return new Chromium(process, socket, folder);
  }

  /** Asks the browser, or one of its pages, for something. */
  async send(method: string, params: object = {}, sessionId?: string): Promise<Answer> {
    const id = ++this.#number;
    const answer = Promise.withResolvers<Answer>();
    this.#waiting.set(id, answer);
    this.#socket.send(
      JSON.stringify({ id, method, params, ...sessionId === undefined ? {} : { sessionId } }),
    );
    return await answer.promise;
  }

  /** Calls a function for each event; gives a function that ends this. */
  hear(heard: (session: string, method: string, params: Answer) => void): () => void {
    this.#heard.add(heard);
    return () => void this.#heard.delete(heard);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) =>
      this.#socket.addEventListener("close", resolve, { once: true })
    );
    await this.send("Browser.close");
    await closed;
    await this.#process.status;
    await this.#folder[Symbol.asyncDispose]();
  }
}
